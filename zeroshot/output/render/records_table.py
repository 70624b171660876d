"""Records as a table for users, and how its cells are cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from rich.cells import cell_len, set_cell_size

from ...messages import printable
from ...results import Failure, Manifest, Ranked, Record
from .records import Layout, Writer

_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"
"""Styles of a terminal."""

_PATH_WIDTH = 48
"""Columns that paths take at most, however wide the terminal is."""

_WHOLE_WIDTH = 128
"""Columns of a table that no terminal limits; longer cells are whole all the same."""

_BARS_FROM = 72
"""Columns of the terminal from which on a probability has a bar beside it."""


def _reason(failure: Failure) -> str:
    return "failed: " + printable(failure.error)


class TableWriter(Writer):
    """Aligned rows for users: path, label, probability with a bar, runners-up."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        self._coloured = layout.terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._whole = layout.width is None
        self._width = usable = max(layout.width or _WHOLE_WIDTH, 40)
        self._cells = 8 if usable >= _BARS_FROM else 0
        self._label_width = max(10, min(24, usable // 5))
        self._path_width = min(_PATH_WIDTH, usable * 3 // 8)
        self._rest_width = usable - self._path_width - self._label_width - self._number_width() - 6

    def _number_width(self) -> int:
        return len("100.0% ") + self._cells if self._cells else len("100.0%")

    def begin(self, manifest: Manifest) -> None:  # noqa: ARG002
        """Write the heading."""
        number = "probability" if self._cells else "prob."
        widths = (self._path_width, self._label_width, self._number_width())
        columns = map(self._fit, ("path", "label", number), widths)
        self._put(self._line(self._styled("  ".join((*columns, "runners-up")), _BOLD)))

    def _render(self, record: Record) -> bytes:
        """Return one row: an answer, a background label that won in parentheses, no number where nothing won."""
        path = self._tail(printable(record.path), self._path_width)
        if isinstance(record, Failure):
            error = self._fit(_reason(record), self._width - self._path_width - 2)
            return self._line(f"{path}  {self._styled(error, _RED)}")
        winner, runners = record.background, record.top
        name = f"({printable(winner.label)})" if winner else "(unknown)"
        if record.label is not None:
            winner, name, runners = (
                record.top[0],
                printable(", ".join(record.labels or (record.label,))),
                record.top[len(record.labels or (record.label,)) :],
            )
        label = self._styled(self._fit(name, self._label_width), _BOLD if record.label is not None else _DIM)
        number = f"{100 * winner.probability:5.1f}%" if winner else "     –"
        filled = round(winner.probability * self._cells) if winner else 0
        bar = "█" * filled + ("·" if winner else " ") * (self._cells - filled)
        number += f" {self._styled(bar, _GREEN)}" if self._cells else ""
        return self._line("  ".join((path, label, number, self._styled(self._rest(runners), _DIM))))

    def has_room(self, failure: Failure) -> bool:
        """Whether the reason of a failure is shown whole."""
        return self._whole or cell_len(_reason(failure)) <= self._width - self._path_width - 2

    def _rest(self, runners: Sequence[Ranked]) -> str:
        """List the labels behind the winner: the first always, its name shortened, further ones where they fit."""
        rest = ""
        for ranked in runners:
            number = f" {100 * ranked.probability:.1f}%"
            entry = (", " if rest else "") + printable(ranked.label) + number
            if not self._whole and cell_len(rest + entry) > self._rest_width:
                if not rest and (room := self._rest_width - len(number)) > 2:
                    rest = self._fit(printable(ranked.label), room) + number
                break
            rest += entry
        return rest

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._coloured and text.strip() else text

    def _line(self, text: str) -> bytes:
        return text.rstrip().encode("utf-8", "backslashreplace") + b"\n"

    def _tail(self, text: str, width: int) -> str:
        return text if self._whole and cell_len(text) > width else cut_left(text, width)

    def _fit(self, text: str, width: int) -> str:
        return text if self._whole and cell_len(text) > width else cut_right(text, width)


def cut_left(text: str, width: int) -> str:
    """Pad or shorten to a number of terminal cells, from the left: the end of a path tells files apart."""
    if cell_len(text) > width:
        while cell_len(text) > width - 1:
            text = text[max(1, (cell_len(text) - width) // 2) :]
        text = "…" + text
    return set_cell_size(text, width)


def cut_right(text: str, width: int) -> str:
    """Pad or shorten to a number of terminal cells."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
