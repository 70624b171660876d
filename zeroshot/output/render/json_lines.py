"""Writes many records as JSON lines from one pattern, byte for byte as ``json.dumps`` does, but quicker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring as quote
from typing import Any

import numpy as np

from ...enums import Field
from ...result_columns import Answers
from ...results import Failure, significant

_MOST = 1e5
"""From about here on ``%.6g`` and Python's own notation of a number differ by more than a missing ``.0``."""


def to_json(value: Any, indent: int | None = None) -> bytes:
    r"""Encode plain data as JSON in UTF-8; NaN is refused, lone surrogates become ``\udcXX`` escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


class LineTemplate:
    """What the lines of all records have in common, for labels and layout.

    A number is rounded to 6 significant digits and then written as Python writes it; ``%.6g`` gives the same text but
    for whole numbers, which lack ``.0``: a line that may hold one is written number by number.

    Args:
        names: Of the answers.
        fields: Numbers given for each label.
        top_k: Labels listed.
    """

    def __init__(self, names: Sequence[str], fields: Sequence[Field], top_k: int) -> None:
        self._fields = [str(field) for field in fields]
        self._top_k = top_k
        self._names = [quote(name) for name in names]

    @staticmethod
    def fits(answers: Answers) -> bool:
        """Whether all numbers are those of JSON, there are some, and each image has one label at most."""
        if answers.n_labels is not None:
            return False
        columns = (answers.probabilities, answers.similarities, answers.logits)
        return bool(answers.order.size) and all(np.isfinite(column).all() for column in columns)

    def fill(self, answers: Answers) -> bytes:
        """Return the lines of all records."""
        n_shown = min(self._top_k, answers.order.shape[1])
        numbers = np.stack([getattr(answers, _COLUMNS[field])[:, :n_shown] for field in self._fields], axis=-1)
        heads = [f'"ok", "label": {name}' for name in self._names]
        labels = [
            heads[place] if known else '"unknown", "label": null'
            for place, known in zip(answers.order[:, 0].tolist(), answers.known.tolist(), strict=True)
        ]
        read = (path for place, path in enumerate(answers.paths) if place not in answers.errors)
        columns: list[Sequence[Any]] = [list(map(quote, read)), labels]
        columns += [numbers[:, 0, which].tolist() for which in range(len(self._fields))]
        for rank in range(n_shown):
            columns.append([self._names[place] for place in answers.order[:, rank].tolist()])
            columns += [numbers[:, rank, which].tolist() for which in range(len(self._fields))]
        quick, exact = self._pattern(n_shown, "%.6g"), self._pattern(n_shown, "%r")
        rows = zip(*columns, strict=True)
        if answers.order.shape[0] and (whole := _may_be_whole(numbers)).any():
            lines = [
                exact % tuple(significant(cell) if isinstance(cell, float) else cell for cell in row)
                if slow
                else quick % row
                for row, slow in zip(rows, whole.tolist(), strict=True)
            ]
        else:
            lines = [quick % row for row in rows]
        for place in sorted(answers.errors):
            failure = Failure(answers.paths[place], answers.errors[place])
            lines.insert(place, json.dumps(failure.to_dict(), ensure_ascii=False) + "\n")
        return "".join(lines).encode("utf-8", "backslashreplace")

    def _pattern(self, n_shown: int, number: str) -> str:
        numbers = "".join(f', "{field}": {number}' for field in self._fields)
        top = ", ".join([f'{{"label": %s{numbers}}}'] * n_shown)
        return f'{{"path": %s, "status": %s{numbers}, "top": [{top}]}}\n'


_COLUMNS = {"probability": "probabilities", "similarity": "similarities", "logit": "logits"}


def _may_be_whole(numbers: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say of each row, shape ``(n, ...)``, whether 6 digits may leave a whole number, or one not for ``%.6g``."""
    sizes = np.abs(numbers.astype(np.float64))
    whole = (sizes == 0) | (sizes >= _MOST)
    whole |= (sizes > 0.5) & (np.abs(sizes - np.rint(sizes)) <= 1e-5 * sizes)
    return np.asarray(whole.reshape(len(numbers), -1).any(axis=1))
