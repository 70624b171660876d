"""Prepares how `classify` answers: by labels that compete, or by labels that are judged one by one.

What is applied, and in which order, is decided here alone: learned weights, calibration, shares of the labels, and
neighbours; background labels, groups and the threshold follow where an answer is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import multi_label_runs
from .prepare_classifier import apply_calibration, prepare_classifier
from .prior_and_neighbours import FolderStatistics, stack

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..enums import Score
    from ..evaluation.learned_file import LearnedFile
    from ..features.cache import FeatureCache
    from ..features.pipeline import Block
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet
    from ..result_columns import Answers
    from ..results import Manifest
    from ..scoring import Decision


class AnswerMethod(Protocol):
    """Gives the answers for images."""

    def answers(self, blocks: Iterable[Block], decision: Decision) -> Iterator[Answers]:
        """Yield the answers for images, in order."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What a user asked to be applied.

    Attributes:
        labels: The labels.
        templates: What they are put into.
        learned: Weights that were learned for them.
        calibration: A calibration file.
        threshold: Below this probability an image does not have a label.
        score: How logits become probabilities.
        folder: What of all images is applied to each.
        several: An image may have several labels.
    """

    labels: LabelSet
    templates: TemplateSet
    learned: LearnedFile | None
    calibration: Path | None
    threshold: float | None
    score: Score | None
    folder: FolderStatistics
    several: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """What answers, and what was decided for it.

    Attributes:
        answering: Gives the answers.
        manifest: States everything that was applied.
        threshold: Below this probability an image does not have a label.
        seen: All images, where they had to be looked at first; else None.
    """

    answering: AnswerMethod
    manifest: Manifest
    threshold: float
    seen: list[Block] | None = None


def make_ready(
    encoder: Encoder,
    asked: AnswerOptions,
    cache: FeatureCache | None,
    chosen: dict[str, Any],
    look: Callable[[], list[Block]],
) -> Ready:
    """Build what answers, before an image is read unless all have to be looked at first.

    Args:
        encoder: The model.
        asked: What to apply.
        cache: Where rows of texts are kept.
        chosen: What a manifest says besides.
        look: Encodes all images.
    """
    from ..classifier import build_manifest

    spec = encoder.spec
    if asked.several:
        judge = multi_label_runs.prepare_judge(encoder, asked.labels, asked.templates, cache)
        judge, least, stated = multi_label_runs.apply_calibration(judge, spec, asked.calibration, asked.threshold)
        manifest = multi_label_runs.manifest_of(spec, judge, asked.labels, chosen | {"threshold": least} | stated)
        return Ready(judge, manifest, least)
    classifier = prepare_classifier(encoder, asked.labels, asked.templates, asked.score, cache, asked.learned)
    classifier, least, stated = apply_calibration(classifier, spec, asked.calibration, asked.threshold)
    seen = look() if asked.folder.looks_first else None
    judged = asked.folder.apply(classifier, stack(seen or []), calibrated=asked.calibration is not None)
    chosen = chosen | {"threshold": least} | stated | judged.stated
    chosen |= {"learned": asked.learned.manifest()} if asked.learned else {}
    return Ready(judged, build_manifest(spec, classifier, chosen), least, seen)
