"""Identifies what fitted numbers are valid for: one model with one template set and one list of labels.

With another of these, probabilities would be wrong without a sign of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

from ..encoder import EncoderSpec
from ..messages import some_of
from ..scoring import Classifier


@dataclass(frozen=True, slots=True)
class Identity:
    """What a calibration, or learned weights, are valid for.

    Attributes:
        model: The model as the user named it, for messages.
        fingerprint: Of weights, configuration, activation, preprocessing and precision.
        logit_scale: The scale of the logits.
        score: How logits become probabilities.
        prompts: The template set's name, for messages.
        templates_sha256: Hash of its templates.
        labels: The labels' names, sorted, for messages.
        labels_sha256: Hash of labels, aliases, own prompts, background flags and groups, whatever their order.
        learned: Hash of the weights that were learned from examples; empty for those of the texts alone.
    """

    model: str
    fingerprint: str
    logit_scale: float
    score: str
    prompts: str
    templates_sha256: str
    labels: tuple[str, ...]
    labels_sha256: str
    learned: str = ""


def identify(spec: EncoderSpec, classifier: Classifier) -> Identity:
    """Return what numbers that were fitted for this model, template set and label list are valid for."""
    labels = classifier.labels.manifest()
    spelled = [sorted(json.dumps(label, sort_keys=True) for label in labels["labels"])]
    spelled.append(sorted(json.dumps([name, sorted(members)]) for name, members in labels["groups"].items()))
    return Identity(
        model=spec.model,
        fingerprint=spec.fingerprint,
        logit_scale=spec.logit_scale,
        score=str(classifier.score),
        prompts=classifier.templates.name,
        templates_sha256=classifier.templates.sha256,
        labels=tuple(sorted(classifier.labels.names)),
        labels_sha256=hashlib.sha256(json.dumps(spelled).encode()).hexdigest(),
        learned=classifier.learned,
    )


def read_number(value: object) -> float:
    """Return a number of a document.

    Raises:
        TypeError: It is something else, such as text or true.
        ValueError: It is beyond what a number can be here.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number out of range") from None


def read_identity(entry: dict[str, Any]) -> Identity:
    """Return an identity from the plain data of a file.

    Raises:
        TypeError: A value is of another kind, or there is one that nobody knows.
        ValueError: The scale is no number above 0.
        KeyError: There are no labels.
    """
    labels = entry["labels"]
    if not isinstance(labels, list):
        raise TypeError
    if unknown := set(entry) - {field.name for field in fields(Identity)}:
        raise ValueError(f"{some_of(sorted(unknown))} is unknown: did a newer zeroshot write it?")
    found = Identity(**{**entry, "labels": tuple(labels), "logit_scale": read_number(entry["logit_scale"])})
    texts = (getattr(found, name.name) for name in fields(found) if name.name not in ("labels", "logit_scale"))
    if not all(isinstance(text, str) for text in (*texts, *labels)):
        raise TypeError
    if not 0 < found.logit_scale < float("inf"):
        raise ValueError(f"a logit scale of {found.logit_scale:g}")
    return found


def describe_difference(fitted: Identity, present: Identity) -> str:
    """Say in what two identities differ; nothing when they do not."""
    if fitted.fingerprint != present.fingerprint or abs(fitted.logit_scale / present.logit_scale - 1) > 1e-6:
        if fitted.model != present.model:
            return f"the model {fitted.model}, not {present.model}"
        return f"another {fitted.model}: its weights, preprocessing or precision differ"
    if fitted.score != present.score:
        return f"--score {fitted.score}, not {present.score}"
    if fitted.templates_sha256 != present.templates_sha256:
        if fitted.prompts != present.prompts:
            return f"the prompts {fitted.prompts}, not {present.prompts}"
        return f"other templates of the name {fitted.prompts}"
    if fitted.labels_sha256 != present.labels_sha256:
        absent = sorted(set(fitted.labels) - set(present.labels))
        new = sorted(set(present.labels) - set(fitted.labels))
        if absent or new:
            parts = [
                f"without {some_of([*map(repr, new)])}" if new else "",
                f"with {some_of([*map(repr, absent)])}" if absent else "",
            ]
            return f"other labels: {', '.join(part for part in parts if part)}"
        return "the same labels with other aliases, prompts, background or groups"
    if fitted.learned != present.learned:
        if not fitted.learned:
            return "the texts alone, not for weights learned from examples"
        return "learned weights, which this run does not use" if not present.learned else "other learned weights"
    return ""
