"""The manifest: everything that decided a run's answers, so that a number can be repeated."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .classifier import Classifier
from .encoder import EncoderSpec
from .results import Manifest


def build_manifest(spec: EncoderSpec, classifier: Classifier, options: dict[str, Any]) -> Manifest:
    """Collect model, prompts, labels and options.

    Args:
        spec: The loaded model's facts.
        classifier: The labels, templates and score in use.
        options: What else changed the numbers (threshold, EXIF turning, ...).
    """
    return Manifest(
        model=asdict(spec) | {"fingerprint": spec.fingerprint},
        prompts=classifier.templates.manifest(),
        labels=classifier.labels.manifest(),
        options={"score": str(classifier.score), **options},
    )
