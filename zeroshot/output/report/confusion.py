"""The confusion matrix as a heat map, and the pairs of labels that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...evaluation.evaluate import Evaluation
from ...evaluation.metrics import Indices, confused_pairs
from .page import Cell, Table

MATRIX_LABELS = 100
"""Up to this many labels the confusion matrix is shown; beyond, the pairs that are confused most."""

_PAIRS, _PAIRS_ALONE = 10, 50


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A count above 0: ``kind`` is ``hit`` or ``miss``, ``shade`` runs from 1 to 10."""

    kind: str
    shade: int
    count: int
    words: str


def build_confusion(result: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    """Return what the confusion section shows."""
    fits = len(names) <= MATRIX_LABELS
    found = confused_pairs(result.confusion, _PAIRS if fits else _PAIRS_ALONE)
    rows = [
        (Cell(names[i], given=i, answer=j), Cell(names[j], answer=j, view="wrong"), Cell(count, given=i, answer=j))
        for i, j, count in found
    ]
    pairs = Table("The commonest mistakes", ("label", "taken for", "images"), rows, numbers=2)
    most = found[0][2] if found else 0
    key = "Blue: right, by its share of the row."
    key += f" Orange: mistakes, by their share of the most in one cell, {most}." if most else ""
    heat = _heat(result.confusion, names, most) if fits else []
    return {"names": names, "rows": heat, "pairs": pairs, "key": key + " A cell shows its images."}


def describe_mistakes(result: Evaluation, names: Sequence[str]) -> str:
    """Return the one sentence that says what goes wrong."""
    wrong = int((~result.right).sum())
    if not wrong:
        return "Every answer is right."
    (target, answer, count), *others = confused_pairs(result.confusion, 3)
    if count == 1:
        return "The mistakes are spread: no pair of labels is confused twice." if wrong > 1 else "One mistake."
    pairs = [f"{names[target]} for {names[answer]}"]
    pairs += [f"{names[target]} for {names[answer]}" for target, answer, as_many in others if as_many == count]
    often = "Mostly" if 2 * count > wrong else "Most often"
    return f"{often} takes {' and '.join(pairs[:2])}: {count} of {wrong} mistakes{' each' if pairs[1:] else ''}."


def _heat(confusion: Indices, names: Sequence[str], most: int) -> list[list[HeatCell | None]]:
    """Shade the diagonal by its share of the row, and mistakes by their share of the largest."""
    support = confusion.sum(axis=1)

    def cell(target: int, answer: int) -> HeatCell | None:
        count = int(confusion[target, answer])
        if not count:
            return None
        right = target == answer
        shade = max(1, round(10 * count / (int(support[target]) if right else most)))
        words = f"{names[target]} taken for {names[answer]}: {count} of {support[target]}"
        return HeatCell("hit" if right else "miss", shade, count, words)

    return [[cell(target, answer) for answer in range(len(names))] for target in range(len(names))]
