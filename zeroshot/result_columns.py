"""Holds the results of many images as arrays; records are made of them only where objects are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .results import Failure, Prediction, Ranked, Record


@dataclass(frozen=True, slots=True)
class Answers:
    """The records of many inputs in order, as columns: objects for each would take longer than everything else.

    Attributes:
        paths: As the user gave them.
        errors: Why an input could not be read, by its place among the paths; the other columns have a row for each of
            the others.
        names: Labels or groups.
        order: Places in `names` of the best answers, best first, shape ``(n_read, n_ranked)``.
        probabilities: Of those, same shape, float32.
        similarities: Same shape.
        logits: Same shape.
        known: Whether the best is the answer, shape ``(n_read,)``: neither below the threshold nor outdone.
        backgrounds: By row, the background label that came out on top.
        n_labels: How many of the best each image has, where it may have several, shape ``(n_read,)``; else None.
    """

    paths: Sequence[str]
    errors: Mapping[int, str]
    names: Sequence[str]
    order: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float32]
    similarities: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]
    backgrounds: Mapping[int, Ranked]
    n_labels: npt.NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def labels(self) -> list[str | None]:
        """Return the label of each input that was read, None for "unknown"."""
        best = self.order[:, 0].tolist()
        return [self.names[place] if known else None for place, known in zip(best, self.known.tolist(), strict=True)]

    def given_labels(self) -> list[str | None]:
        """Return every label that is given to an input, of several each; None for an input that is given none."""
        return [label for each in self.labels_of_each() for label in each or (None,)]

    def labels_of_each(self) -> list[tuple[str, ...]]:
        """Return the labels that are given to each input that was read; nothing for one that is given none."""
        if self.n_labels is None:
            return [() if label is None else (label,) for label in self.labels()]
        counted = zip(self.order.tolist(), self.n_labels.tolist(), strict=True)
        return [tuple(self.names[place] for place in places[:count]) for places, count in counted]

    def predicted(self) -> Iterator[tuple[str | None, tuple[Ranked, ...], Ranked | None]]:
        """Yield each input that was read: its label, its best answers, and the background label above them."""
        numbers = (self.probabilities.tolist(), self.similarities.tolist(), self.logits.tolist())
        known = self.known.tolist()
        for row, places in enumerate(self.order.tolist()):
            columns = (column[row] for column in numbers)
            top = tuple(Ranked(self.names[place], *values) for place, *values in zip(places, *columns, strict=True))
            yield (top[0].label if known[row] else None), top, self.backgrounds.get(row)

    def records(self) -> Iterator[Record]:
        """Yield one record for each input."""
        predicted = enumerate(self.predicted())
        for place, path in enumerate(self.paths):
            if place in self.errors:
                yield Failure(path, self.errors[place])
            else:
                row, (label, top, background) = next(predicted)
                count = None if self.n_labels is None else self.n_labels[row]
                labels = None if count is None else tuple(ranked.label for ranked in top[:count])
                yield Prediction(path, label, top[0].probability, top, background, labels)
