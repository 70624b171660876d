"""Groups prompts by length, and finds the beginnings that they share, so that each is encoded once.

A causal tower never looks ahead, so that the keys and values of a beginning ("a photo of a") are the same in every
sentence that has it. All of a batch have the same number of tokens: nothing is padded, each sum has the same terms in
the same order whatever else is encoded, and a sentence's features are the same bit by bit in any company.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .tokens import TokenIds

_SHARERS = 16
"""Sentences from which a run of their own is cheaper than reading their beginning with each."""
_FEWEST = 4
"""Sentences that go on from a beginning; what longer beginnings left over may be fewer, and is read whole."""
_LEAST = 2
"""Positions of a beginning from which it is shared, and of a rest: a product of a single row sums in another order."""

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Sentences that are encoded in one go.

    Attributes:
        rows: Their places.
        length: Tokens of each.
        shared: Leading tokens that are the same in all, and are read once; 0 where each is read whole.
    """

    rows: Rows
    length: int
    shared: int = 0


def plan_batches(
    tokens: TokenIds, lengths: npt.NDArray[np.int64], positions: int, spare: int | None = None
) -> list[TextBatch]:
    """Put sentences into batches, the largest first.

    Args:
        tokens: Ids, shape ``(n_texts, context_length)``.
        lengths: Positions of each that have to be read, shape ``(n_texts,)``.
        positions: That one batch may take.
        spare: So many of the last positions that are read may be padding; None for a graph that cannot go on from a
            beginning.

    Returns:
        Batches in which every row is exactly once.
    """
    batches: list[TextBatch] = []
    for length in np.unique(lengths):
        rows, width = np.flatnonzero(lengths == length), int(length)
        groups = [(rows, 0)]
        if spare is not None and len(rows) >= _SHARERS:
            groups = _groups(rows, tokens[rows, :width], spare)
        for members, shared in groups:
            size = max(_FEWEST if shared else 1, positions // (width - shared))
            batches += [TextBatch(part, width, shared) for part in np.array_split(members, -(-len(members) // size))]
    return sorted(batches, key=lambda batch: -len(batch.rows) * (batch.length - batch.shared))


def _groups(rows: Rows, tokens: TokenIds, spare: int) -> list[tuple[Rows, int]]:
    """Group sentences of one length by the longest beginning that each shares with enough others; 0 for none."""
    spelled = np.ascontiguousarray(tokens, dtype=">u4")
    order = np.argsort(spelled.view(f"V{spelled.shape[1] * 4}")[:, 0], kind="stable")  # one beginning, one stretch
    rows, tokens = rows[order], tokens[order]
    count, width = tokens.shape
    longest = max(width - spare - _LEAST, 0)
    same = np.logical_and.accumulate(tokens[1:, :longest] == tokens[:-1, :longest], axis=1)
    fit = _end_is_last(tokens, spare)
    found = np.zeros(count, dtype=np.intp)  # the first sentence with that beginning, and the beginning's length
    for n_tokens in range(_LEAST, longest + 1):
        firsts = np.flatnonzero(np.concatenate([[True], ~same[:, n_tokens - 1]]))
        sizes = np.diff(np.append(firsts, count))
        enough = np.repeat(sizes >= _SHARERS, sizes) & fit
        if not enough.any():
            break
        found[enough] = np.repeat(firsts * width + n_tokens, sizes)[enough]
    _, inverse, sizes = np.unique(found, return_inverse=True, return_counts=True)
    found[(sizes < _FEWEST)[inverse]] = 0
    return [(rows[found == name], int(name) % width) for name in np.unique(found)]


def _end_is_last(tokens: TokenIds, spare: int) -> npt.NDArray[np.bool_]:
    """Whether the tower reads each sentence's features at its end, wherever it looks for it.

    That is the highest id or one of its own; a sentence that spells either earlier is read whole.
    """
    body = tokens.shape[1] - 1 - spare
    last: npt.NDArray[Any] = tokens.argmax(axis=1) >= body
    for column in range(body, tokens.shape[1]):
        last &= (tokens[:, :body] != tokens[:, column, None]).all(axis=1)
    return last
