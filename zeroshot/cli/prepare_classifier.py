"""Builds the classifier of a command from its labels, templates, learned weights and calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..enums import Score
from . import console

if TYPE_CHECKING:
    from ..encoder import Encoder, EncoderSpec
    from ..evaluation.learned_file import LearnedFile
    from ..features.cache import FeatureCache
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet
    from ..scoring import Classifier


def prepare_classifier(
    encoder: Encoder,
    labels: LabelSet,
    templates: TemplateSet,
    score: Score | None,
    cache: FeatureCache | None = None,
    learned: LearnedFile | None = None,
) -> Classifier:
    """Build the classifier and tell what a user should know of it; with learned weights no text is encoded."""
    from ..classifier import build_classifier

    if learned:
        return learned.build(encoder.spec, labels, templates, score)
    with console.Bar("labels", len(labels.labels)) as bar:
        classifier = build_classifier(encoder, labels, templates, score, cache, bar.advance)
    for warning in classifier.warnings:
        console.warn(warning)
    return classifier


def apply_calibration(
    classifier: Classifier, spec: EncoderSpec, calibration: Path | None, threshold: float | None
) -> tuple[Classifier, float, dict[str, Any]]:
    """Apply a calibration file, if there is one.

    Returns:
        The classifier, the threshold to use (the one given wins over the fitted one), and what a manifest says of it.
    """
    if calibration is None:
        return classifier, threshold or 0.0, {}
    from ..evaluation.calibration_file import load_calibration

    fitted = load_calibration(calibration, spec, classifier)
    least = fitted.threshold if threshold is None else threshold
    return fitted.apply(classifier), least or 0.0, {"calibration": fitted.manifest()}
