"""Arranges images in rows, most confident first, by the classifier's answers and a user's corrections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..scoring import Classifier
from .label_scores import Floats, Indices, Scored

_NEAR = 0.2
"""Difference of probability up to which two labels compete for an image."""

_BINS = 50
_BLOCK = 2048
_CORRECTED = 2.0
"""Added to the confidence of a corrected image: it stands before every other in its row, above any threshold."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Images in an order, with the number that the order is by.

    Attributes:
        ids: Shape ``(n,)``.
        values: Probability or cosine of each, same shape.
    """

    ids: Indices
    values: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def among(self, chosen: npt.NDArray[np.bool_]) -> Ranking:
        """Return the images that are chosen, shape ``(n_images,)`` by id."""
        kept = chosen[self.ids]
        return Ranking(self.ids[kept], self.values[kept])

    def reaching(self, least: float) -> Ranking:
        """Return the images whose value, descending, is not below a number."""
        end = _reaching(self.values, least)
        return Ranking(self.ids[:end], self.values[:end])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers that compete.

    Attributes:
        first: Index of the answer.
        second: Index of the other; above `first`.
        count: Images on which they are the best two, and near each other.
    """

    first: int
    second: int
    count: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What a user has said about images, in terms of one label list.

    Attributes:
        labels: The answer that each corrected image was given, by id.
        refused: The answers that each image was said not to be, by id.
    """

    labels: Mapping[int, int] = field(default_factory=dict)
    refused: Mapping[int, frozenset[int]] = field(default_factory=dict)


class Sorting:
    """Every image in the row of its answer. It never changes: what was asked of it stays true.

    Args:
        classifier: What scored them.
        scored: The best answers.
        marks: What a user has said.
        features: Unit rows, shape ``(n_images, dim)``; only those of images with refused answers are looked at.
        here: Which images are there, shape ``(n_images,)``; the others stand in no row, and are not counted.
    """

    def __init__(
        self,
        classifier: Classifier,
        scored: Scored,
        marks: Marks,
        features: Features,
        here: npt.NDArray[np.bool_],
    ) -> None:
        self.classifier = classifier
        self.scored = scored
        self.marks = marks
        self.n_answers = len(classifier.labels.answers)
        self.answer = scored.best.copy()
        self.probability = scored.probability.copy()
        self.answer[scored.outdone | ~here] = self.n_answers
        self._here = here
        confidence = self.probability.copy()
        self._apply_refusals(confidence, features)
        self._apply_labels(confidence, features)
        confidence[self.answer == self.n_answers] -= 2 * _CORRECTED  # below everything
        # Stable: images of equal confidence stay in the order in which they were found.
        ids = np.flatnonzero(here).astype(np.int32)
        self._by_confidence = ids[np.argsort(-confidence[ids], kind="stable")]
        self._confidence = confidence[self._by_confidence]
        order = np.argsort(self.answer[self._by_confidence], kind="stable")
        self._rows = self._by_confidence[order]
        self._row_confidence = self._confidence[order]
        self._starts = np.searchsorted(self.answer[self._rows], np.arange(self.n_answers + 2))

    def _apply_labels(self, confidence: Floats, features: Features) -> None:
        images = list(self.marks.labels)
        for start in range(0, len(images), _BLOCK):
            some = images[start : start + _BLOCK]
            answers = self.classifier.answers(self.classifier.scores(features[some])).probabilities
            for row, image in enumerate(some):
                self.answer[image] = label = self.marks.labels[image]
                self.probability[image] = answers[row, label]  # the number is that of the label beside it
                confidence[image] = min(1.0, float(answers[row, label])) + _CORRECTED

    def _apply_refusals(self, confidence: Floats, features: Features) -> None:
        images = [image for image in self.marks.refused if image not in self.marks.labels]
        if not images:
            return
        scores = self.classifier.scores(features[images])
        answers = np.array(self.classifier.answers(scores).probabilities)
        for row, image in enumerate(images):
            answers[row, list(self.marks.refused[image])] = -1.0
            best = int(answers[row].argmax())
            if answers[row, best] < 0:  # every answer was refused
                self.answer[image] = self.n_answers
            elif not self.scored.outdone[image]:
                self.answer[image] = best
                self.probability[image] = confidence[image] = answers[row, best]

    def __len__(self) -> int:
        return len(self.answer)

    def counts(self, threshold: float) -> list[int]:
        """Return how many images each answer's row holds."""
        return [self._end(row, threshold) - int(self._starts[row]) for row in range(self.n_answers)]

    def row(self, answer: int, threshold: float) -> Ranking:
        """Return the images of an answer that reach the threshold, corrected ones first, then most confident first."""
        ids = self._rows[self._starts[answer] : self._end(answer, threshold)]
        return Ranking(ids, self.probability[ids])

    def unknown(self, threshold: float) -> Ranking:
        """Return the images below the threshold, most confident first, then those where a background label won."""
        ids = self._by_confidence[_reaching(self._confidence, threshold) :]
        return Ranking(ids, self.probability[ids])

    def everything(self) -> Ranking:
        """Return all images, least confident first: where corrections tell most."""
        ids = self._by_confidence[::-1]
        return Ranking(ids, self.probability[ids])

    def shown(self, image: int, threshold: float) -> int | None:
        """Return the answer whose row an image stands in; None where it is unknown."""
        answer = int(self.answer[image])
        sure = image in self.marks.labels or self.probability[image] >= np.float32(threshold)
        return answer if answer < self.n_answers and sure else None

    def _end(self, row: int, threshold: float) -> int:
        start, end = int(self._starts[row]), int(self._starts[row + 1])
        return start + _reaching(self._row_confidence[start:end], threshold)

    def pairs(self, most: int = 6) -> list[Pair]:
        """Return the pairs of answers that compete for the most images."""
        near = self._competing()
        first = np.minimum(self.scored.best, self.scored.second)[near].astype(np.int64)
        second = np.maximum(self.scored.best, self.scored.second)[near].astype(np.int64)
        codes, counts = np.unique(first * self.n_answers + second, return_counts=True)
        largest = np.argsort(-counts, kind="stable")[:most]
        return [
            Pair(int(code) // self.n_answers, int(code) % self.n_answers, int(count))
            for code, count in zip(codes[largest], counts[largest], strict=True)
        ]

    def pair(self, first: int, second: int) -> Ranking:
        """Return the images that two answers compete for, closest first."""
        of_both = ((self.scored.best == first) & (self.scored.second == second)) | (
            (self.scored.best == second) & (self.scored.second == first)
        )
        ids = np.flatnonzero(of_both & self._competing()).astype(np.int32)
        margins = (self.scored.probability - self.scored.runner_up)[ids]
        ids = ids[np.argsort(margins, kind="stable")]
        return Ranking(ids, self.probability[ids])

    def _competing(self) -> npt.NDArray[np.bool_]:
        near = (self.scored.probability - self.scored.runner_up < _NEAR) & (self.scored.best != self.scored.second)
        near &= ~self.scored.outdone & self._here
        near[list(self.marks.labels)] = False
        for image, refused in self.marks.refused.items():
            near[image] &= refused.isdisjoint((int(self.scored.best[image]), int(self.scored.second[image])))
        return np.asarray(near)

    def histogram(self) -> list[int]:
        """Return how many images have their best probability in each of 50 bins from 0 to 1."""
        counts, _ = np.histogram(self.scored.probability[self._here], bins=_BINS, range=(0.0, 1.0))
        return [int(count) for count in counts]

    def expected_precision(self, threshold: float) -> float | None:
        """Return the mean probability of what is answered: with calibrated probabilities, the precision to expect."""
        answered = (self.scored.probability >= threshold) & ~self.scored.outdone & self._here
        return float(self.scored.probability[answered].mean()) if answered.any() else None

    def right(self) -> list[tuple[bool, float]]:
        """Return, for each image that says something about it, whether the model's own answer was right, and how sure.

        An image that was given a label says so, and one whose own answer was refused says that it was wrong. Where a
        background label won there was no answer: it is below every threshold.
        """
        said: list[tuple[bool, float]] = []
        for image, label in self.marks.labels.items():
            if self.scored.outdone[image]:
                said.append((False, -1.0))
            else:
                said.append((int(self.scored.best[image]) == label, float(self.scored.probability[image])))
        for image, refused in self.marks.refused.items():
            answered = image not in self.marks.labels and not self.scored.outdone[image]
            if answered and int(self.scored.best[image]) in refused:
                said.append((False, float(self.scored.probability[image])))
        return said


def _reaching(descending: Floats, threshold: float) -> int:
    """Return how many of descending numbers reach a threshold; 0 is reached by whatever is not below everything."""
    return int(np.searchsorted(-descending, -np.float32(threshold), side="right"))


def rank(features: Features, query: Features) -> Ranking:
    """Return all images by their cosine to a query, nearest first.

    Args:
        features: Unit rows, shape ``(n_images, dim)``.
        query: Unit row, shape ``(dim,)``.
    """
    cosines = features @ query
    ids = np.argsort(-cosines, kind="stable").astype(np.int32)
    return Ranking(ids, cosines[ids])
