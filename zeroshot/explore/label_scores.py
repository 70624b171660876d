"""Scores every image of the page against the labels, in arrays; labels scored before are not computed again.

Everything here is a handful of numpy calls over all images: nothing grows with the number of labels but the time of
one matrix product, of which only the labels that are new since the last key press are computed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..scoring import Classifier
from ..system.installed import available_cores

Indices = npt.NDArray[np.int32]


Floats = npt.NDArray[np.float32]


_BLOCK = 4096
"""Images scored at a time: what is between fits into a core's cache."""


_MOST_COLUMNS = 512


_MOST_COLUMN_BYTES = 256_000_000
"""Limits of the cosines that are kept from one key press to the next."""


class Columns:
    """Cosines of every image to the labels typed last, one column a label; not safe for several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()

    def similarities(self, features: Features, weights: Features) -> list[Floats]:
        """Return a column for each label, shape ``(n_images,)`` each.

        Args:
            features: Unit rows, shape ``(n_images, dim)``; rows are only ever added at the end.
            weights: Unit rows, shape ``(n_labels, dim)``.
        """
        names = [hashlib.sha256(row.tobytes()).digest() for row in weights]
        n = len(features)
        for name in names:
            if name in self._kept:
                self._kept.move_to_end(name)
            else:
                self._kept[name] = np.empty(0, dtype=np.float32)
        lengths = {len(self._kept[name]) for name in names if len(self._kept[name]) < n}
        for length in lengths:
            # Columns that end at the same image are made longer by one product.
            short = [index for index, name in enumerate(names) if len(self._kept[name]) == length]
            added = weights[short] @ features[length:n].T
            for index, column in zip(short, added, strict=True):
                self._kept[names[index]] = np.concatenate([self._kept[names[index]], column])
        columns = [self._kept[name][:n] for name in names]
        most = max(len(names), min(_MOST_COLUMNS, _MOST_COLUMN_BYTES // (4 * max(n, 1))))
        while len(self._kept) > most:
            self._kept.popitem(last=False)
        return columns


@dataclass(frozen=True, slots=True)
class Scored:
    """The best two answers for each image; arrays of shape ``(n_images,)``.

    Attributes:
        best: Index of the best answer.
        probability: Its probability.
        second: Index of the second best; the best again where there is one answer only.
        runner_up: Its probability.
        outdone: Whether a background label is above the best answer.
    """

    best: Indices
    probability: Floats
    second: Indices
    runner_up: Floats
    outdone: npt.NDArray[np.bool_]


def score(classifier: Classifier, columns: Sequence[Floats]) -> Scored:
    """Find the best two answers for each image, as `Classifier.decide` ranks them.

    Args:
        classifier: Its labels are those of the columns.
        columns: Cosines, one column a label.
    """
    n = len(columns[0])
    found = Scored(
        np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.int32), np.empty(n, np.float32),
        np.zeros(n, np.bool_),
    )  # fmt: skip

    def one(start: int) -> None:
        part = slice(start, min(start + _BLOCK, n))
        _score_block(classifier, np.stack([column[part] for column in columns], axis=1), found, part)

    starts = range(0, n, _BLOCK)
    if len(starts) < 4:
        for start in starts:
            one(start)
    else:
        with ThreadPoolExecutor(available_cores()) as pool:
            list(pool.map(one, starts))
    return found


def _score_block(classifier: Classifier, similarities: Floats, found: Scored, part: slice) -> None:
    scores = classifier.from_similarities(similarities)
    answers = classifier.answers(scores)
    p, rows = answers.probabilities, np.arange(len(similarities))
    best = p.argmax(axis=1)
    top = p[rows, best]
    found.best[part], found.probability[part] = best, top
    background = [index for index, label in enumerate(classifier.labels.labels) if label.background]
    if background:
        found.outdone[part] = scores.probabilities[:, background].max(axis=1) > top
    if p.shape[1] == 1:
        found.second[part], found.runner_up[part] = best, 0.0
        return
    rest = p if p.flags.owndata else p.copy()
    rest[rows, best] = -1.0
    second = rest.argmax(axis=1)
    found.second[part], found.runner_up[part] = second, rest[rows, second]
    # Logits decide among probabilities that float32 rounds to the same number.
    rest[rows, best] = top
    for row in np.flatnonzero(found.runner_up[part] == top):
        equal = np.flatnonzero(rest[row] == top[row])
        order = equal[np.argsort(-answers.logits[row, equal], kind="stable")]
        found.best[part.start + row], found.second[part.start + row] = order[:2]
