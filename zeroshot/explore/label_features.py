"""Keeps the text features of labels from key press to key press."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ..encoder import Features

_MOST_ROWS = 20_000


class RowMemory:
    """Text features of this run: what is typed letter by letter is not worth keeping on the disk."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, Features] = OrderedDict()

    def find_texts(self, model: bytes, contents: Sequence[bytes], dim: int) -> dict[bytes, Features]:
        """Return the rows of those labels that are known."""
        found = ((content, self._rows.get(model + content)) for content in contents)
        return {content: row for content, row in found if row is not None and len(row) == dim}

    def add(self, model: bytes, _name: str, rows: Iterable[tuple[bytes, Features]]) -> None:
        """Keep rows."""
        for content, row in rows:
            self._rows[model + content] = row
        while len(self._rows) > _MOST_ROWS:
            self._rows.popitem(last=False)
