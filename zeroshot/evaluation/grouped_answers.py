"""Turns probabilities of labels into those of answers before measuring: sums groups, leaves out background labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..enums import Score
from ..scoring import Classifier
from .metrics import Indices
from .statistics import Booleans

Logits = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """The answers of a classifier as columns of logits.

    Attributes:
        names: Of each answer.
        keys: The folder's name or table's spelling of each; those of a group are joined by `` + ``.
        members: The labels of each answer.
        background: The labels that are never an answer.
        competing: Whether probabilities sum to one, those of background labels among them.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    background: tuple[int, ...]
    competing: bool

    @classmethod
    def of(cls, classifier: Classifier, keys: tuple[str, ...]) -> AnswerColumns:
        """Return the columns of a classifier, given the spelling of each of its labels."""
        labels = classifier.labels
        members = tuple(tuple(indices) for _, indices in labels.answers)
        background = tuple(index for index, label in enumerate(labels.labels) if label.background)
        joined = tuple(" + ".join(keys[index] for index in indices) for indices in members)
        names = tuple(name for name, _ in labels.answers)
        return cls(names, joined, members, background, classifier.score is Score.SOFTMAX)

    @property
    def as_labels(self) -> bool:
        """Whether each label is an answer of its own."""
        return not self.background and all(len(indices) == 1 for indices in self.members)

    def targets(self, targets: Indices) -> Indices:
        """Return the answer that holds each image's label."""
        answer_of = {label: answer for answer, indices in enumerate(self.members) for label in indices}
        return np.asarray([answer_of[int(target)] for target in targets], dtype=np.int64)

    def logits(self, logits: Logits) -> Logits:
        """Return a column for each answer, and where probabilities compete a last one for all background labels.

        A group's logit is the logarithm of its members' summed exponentials, so that a softmax gives the sum of theirs.

        Args:
            logits: Of the labels, shape ``(n_images, n_labels)``.
        """
        if self.as_labels:
            return logits
        columns = [*self.members, self.background] if self.background and self.competing else self.members
        return np.stack([np.logaddexp.reduce(logits[:, list(indices)], axis=1) for indices in columns], axis=1)

    def outdone(self, logits: Logits, answers: Logits) -> Booleans:
        """Return where a background label is above the best answer, so that `classify` says "unknown"."""
        if not self.background:
            return np.zeros(len(logits), dtype=bool)
        best = answers[:, : len(self.names)].max(axis=1)
        return np.asarray(logits[:, list(self.background)].max(axis=1) > best)
