"""A run's results: one record per input, and the manifest with everything needed to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROBABILITY = ("probability",)


def significant(value: float) -> float:
    """Round to 6 significant digits: what float32 carries, without its noise."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Ranked:
    """One label's standing for one image.

    Attributes:
        label: The label, or the group, as the user wrote it.
        probability: In [0, 1].
        similarity: Cosine of image and label, in [-1, 1]; for a group, its nearest member's.
        logit: Scaled similarity plus bias; for a group, the logarithm of the summed exponentials.
    """

    label: str
    probability: float
    similarity: float
    logit: float

    def to_dict(self, fields: Sequence[str] = PROBABILITY) -> dict[str, Any]:
        """Return the label and some of its numbers as plain data."""
        return {"label": self.label, **self.numbers(fields)}

    def numbers(self, fields: Sequence[str]) -> dict[str, float]:
        """Return some of its numbers, by name."""
        return {str(field): significant(getattr(self, field)) for field in fields}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image.

    Attributes:
        path: As the user gave it (undecodable bytes are surrogate escapes).
        label: The best label; None for "unknown": below the threshold, or a background label came out on top.
        probability: Probability of the best reportable label, whether or not it reached the threshold.
        top: The best labels, best first.
        background: The background label that came out on top of them; None where none did.
        labels: All labels that the image has, best first, where it may have several; else None.
    """

    path: str
    label: str | None
    probability: float
    top: tuple[Ranked, ...]
    background: Ranked | None = None
    labels: tuple[str, ...] | None = None

    @property
    def error(self) -> None:
        """None: the image could be read."""
        return None

    @property
    def status(self) -> str:
        """``ok``, or ``unknown`` where there is no label."""
        return "unknown" if self.label is None else "ok"

    def to_dict(self, fields: Sequence[str] = PROBABILITY) -> dict[str, Any]:
        """Return the record as the JSON contract has it.

        Args:
            fields: Numbers for each label: ``probability``, ``similarity``, ``logit``.
        """
        top = [ranked.to_dict(fields) for ranked in self.top]
        numbers = self.top[0].numbers(fields)
        several = {} if self.labels is None else {"labels": list(self.labels)}
        return {"path": self.path, "status": self.status, "label": self.label, **several, **numbers, "top": top}


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, and why in one line."""

    path: str
    error: str

    @property
    def label(self) -> None:
        """None: there is no answer."""
        return None

    @property
    def status(self) -> str:
        """``failed``."""
        return "failed"

    def to_dict(self, fields: Sequence[str] = PROBABILITY) -> dict[str, Any]:  # noqa: ARG002 - as Prediction's
        """Return the record as the JSON contract has it."""
        return {"path": self.path, "status": self.status, "error": self.error}


Record = Prediction | Failure


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that decides a run's answers.

    Attributes:
        model: Model, weights hash, preprocessing, engine, device, precision and versions.
        prompts: Name, hash and templates of the template set.
        labels: The labels with their aliases, own prompts, background flags and groups.
        options: Score, threshold and whatever else changed the numbers.
    """

    model: dict[str, Any]
    prompts: dict[str, Any]
    labels: dict[str, Any]
    options: dict[str, Any]
