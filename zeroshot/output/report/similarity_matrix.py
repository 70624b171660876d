"""The similarity matrix: a few images against every label, ordered so that the best labels lie near the diagonal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...results import Prediction, Ranked

MATRIX_LABELS = 200
"""Beyond this many labels the matrix shows those that are among the answers' runners-up."""

NUMBERED_LABELS = 20
"""Beyond this many labels the numbers are shown when a cell is pointed at."""

_NEAR = 5


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """An image and a label: numbers as text, shades from 0 to 10 within the row."""

    label: str
    cosine: str
    percent: str
    cosine_shade: int
    probability_shade: int
    wins: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """An image: its path, short name, answer, ``data:`` address (empty for none), and a cell or None per label."""

    path: str
    name: str
    answer: str
    thumbnail: str
    cells: tuple[MatrixCell | None, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows and the labels of their columns; ``numbered`` where cells show numbers."""

    names: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    numbered: bool


def build_matrix(records: Sequence[Prediction], thumbnails: Mapping[str, str], names: Sequence[str]) -> Matrix:
    """Return the matrix of some images; each record lists every label, best first.

    Args:
        records: In input order.
        thumbnails: ``data:`` addresses by path.
        names: All labels, in their own order.
    """
    winners = list(dict.fromkeys(record.top[0].label for record in records))
    seen = {ranked.label for record in records for ranked in record.top}
    if len(seen) > MATRIX_LABELS:
        seen = {ranked.label for record in records for ranked in record.top[:_NEAR]}
    columns = winners + [name for name in names if name in seen and name not in set(winners)]
    place = {name: index for index, name in enumerate(columns)}
    ordered = sorted(records, key=lambda record: place[record.top[0].label])
    rows = tuple(_row(record, thumbnails.get(record.path, ""), columns) for record in ordered)
    return Matrix(tuple(columns), rows, len(columns) <= NUMBERED_LABELS)


def _row(record: Prediction, thumbnail: str, columns: Sequence[str]) -> MatrixRow:
    found = {ranked.label: ranked for ranked in record.top}
    cosines = [found[name].similarity for name in columns if name in found]
    low, high, most = min(cosines), max(cosines), record.top[0].probability

    def cell(ranked: Ranked) -> MatrixCell:
        # Squared: cosines of one image lie close together, and the few near the best are what matters.
        near = (ranked.similarity - low) / max(high - low, 1e-9)
        return MatrixCell(
            ranked.label,
            f"{ranked.similarity:z.2f}",
            f"{100 * ranked.probability:.1f}%",
            round(10 * near * near),
            min(10, round(10 * ranked.probability / max(most, 1e-9))),
            ranked is record.top[0],
        )

    cells = tuple(cell(found[name]) if name in found else None for name in columns)
    answer = record.label if record.label is not None else "unknown"
    return MatrixRow(record.path, record.path.rsplit("/", 1)[-1], answer, thumbnail, cells)
