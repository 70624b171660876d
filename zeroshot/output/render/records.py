r"""Records as bytes: one writer a format. Nothing else in the package writes results.

Text is UTF-8 whatever the locale; bytes of a file name that are not UTF-8 are written as ``\udcXX``, which JSON
reads back to the same name and which no other format can mistake for something else.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ...enums import Field, Format
from ...results import Failure, Manifest, Ranked, Record

CLASSIFY_FORMAT = "zeroshot-classify"
JSON_VERSION = 1

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that make a spreadsheet take a cell for a formula."""

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def significant(value: float) -> float:
    """Round to 6 significant digits: what float32 carries, without its noise."""
    return float(f"{value:.6g}")


def to_json(value: Any, indent: int | None = None) -> bytes:
    r"""Encode plain data as JSON in UTF-8; NaN is refused, lone surrogates become ``\udcXX`` escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Escape what a terminal would act on: control characters and undecodable bytes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a record is shown.

    Attributes:
        fields: Numbers given for each label; the probability is always among them.
        top_k: Labels listed for each picture.
        width: Columns of the terminal, for tables.
        colour: Whether the table may be coloured.
    """

    fields: tuple[Field, ...] = (Field.PROBABILITY,)
    top_k: int = 5
    width: int = 80
    colour: bool = False


def record_to_dict(record: Record, fields: Sequence[Field]) -> dict[str, Any]:
    """Return a record as the JSON contract has it: ``path, label, probability, top`` or ``path, error``."""
    if isinstance(record, Failure):
        return {"path": record.path, "error": record.error}
    best = record.top[0]
    return {
        "path": record.path,
        "label": record.label,
        **_numbers(best, fields),
        "top": [{"label": ranked.label, **_numbers(ranked, fields)} for ranked in record.top],
    }


def _numbers(ranked: Ranked, fields: Sequence[Field]) -> dict[str, float]:
    return {str(field): significant(getattr(ranked, field)) for field in fields}


class Writer(ABC):
    """Writes one run's records to a stream as they come."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        self._stream = stream
        self._layout = layout

    def begin(self, manifest: Manifest) -> None:  # noqa: B027 - a format may have nothing to write there
        """Write what stands before the first record."""

    def write(self, record: Record) -> None:
        """Write one record, with as many ranked labels as the layout shows."""
        self._write(record if isinstance(record, Failure) else replace(record, top=record.top[: self._layout.top_k]))

    @abstractmethod
    def _write(self, record: Record) -> None:
        """Write one record as it is."""

    def end(self, *, complete: bool) -> None:  # noqa: B027
        """Write what stands after the last record; not complete when the run was interrupted."""


class JsonlWriter(Writer):
    """One JSON object a line."""

    def _write(self, record: Record) -> None:
        """Write one line, whole, and let the reader of a pipe have it."""
        self._stream.write(to_json(record_to_dict(record, self._layout.fields)) + b"\n")
        self._stream.flush()


class JsonWriter(Writer):
    """One versioned document: manifest, records, summary. It is valid even when the run is interrupted."""

    _written = 0
    _failed = 0

    def begin(self, manifest: Manifest) -> None:
        """Open the document."""
        head = to_json({"format": CLASSIFY_FORMAT, "version": JSON_VERSION, "manifest": asdict(manifest)}, indent=1)
        self._stream.write(head.removesuffix(b"\n}") + b',\n "records": [')

    def _write(self, record: Record) -> None:
        """Write one element of the list."""
        self._stream.write(
            (b",\n  " if self._written else b"\n  ") + to_json(record_to_dict(record, self._layout.fields))
        )
        self._stream.flush()
        self._written += 1
        self._failed += isinstance(record, Failure)

    def end(self, *, complete: bool) -> None:
        """Close the list and the document."""
        summary = {"inputs": self._written, "failed": self._failed, "complete": complete}
        self._stream.write(b'\n ],\n "summary": ' + to_json(summary) + b"\n}\n")


class SeparatedWriter(Writer):
    """CSV or TSV: a header, then a row a record; the answer, the reason of a failure, then the ranked labels."""

    def __init__(self, stream: BinaryIO, layout: Layout, dialect: Format) -> None:
        super().__init__(stream, layout)
        self._dialect = dialect

    def begin(self, manifest: Manifest) -> None:  # noqa: ARG002
        """Write the header."""
        names = [str(field) for field in self._layout.fields]
        ranks = [f"{name}_{rank}" for rank in range(1, self._layout.top_k + 1) for name in ("label", *names)]
        self._row(["path", "label", *names, "error", *ranks])

    def _write(self, record: Record) -> None:
        """Write one row."""
        fields, form = self._layout.fields, self._dialect
        path = guard_cell(record.path, "./", form)
        if isinstance(record, Failure):
            blank = [""] * (self._layout.top_k * (1 + len(fields)))
            self._row([path, "", *[""] * len(fields), guard_cell(record.error, "'", form), *blank])
            return
        row = [path, guard_cell(record.label or "", "'", form), *_formatted(record.top[0], fields), ""]
        for ranked in record.top:
            row += [guard_cell(ranked.label, "'", form), *_formatted(ranked, fields)]
        self._row(row)

    def _row(self, cells: Sequence[str]) -> None:
        self._stream.write(format_row(cells, self._dialect))
        self._stream.flush()


def guard_cell(text: str, prefix: str, form: Format) -> str:
    """Keep a spreadsheet from running a cell of a CSV as a formula.

    A relative path gets ``./``, which names the same file; a label an apostrophe, which spreadsheets do not show.
    """
    return prefix + text if form is Format.CSV and text.startswith(_FORMULA) else text


def format_row(cells: Sequence[str], form: Format) -> bytes:
    """Return one line of CSV or TSV."""
    if form is Format.TSV:
        # As the tabular conventions have it: no quoting, the separators themselves escaped.
        line = "\t".join(cell.translate(_TSV_ESCAPES) for cell in cells)
    else:
        # Rows end in LF, for the tools of a shell; the writer quotes a CR in a cell only where CR ends its rows.
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(cells)
        line = text.getvalue().removesuffix("\r\n")
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _formatted(ranked: Ranked, fields: Sequence[Field]) -> list[str]:
    return [f"{value:.6g}" for value in _numbers(ranked, fields).values()]


class TableWriter(Writer):
    """Aligned rows for people: path, label, probability with a bar, runners-up."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        self._text = io.StringIO()  # never the stream itself: a wrapper would close it when an error ends the run
        self._console = Console(
            file=self._text,
            width=10_000,
            force_terminal=layout.colour,
            no_color=None if layout.colour else True,  # None: as $NO_COLOR says
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._width = usable = max(layout.width, 40)
        self._label_width = max(10, min(24, usable // 5))
        self._path_width = max(12, usable * 3 // 8)
        self._rest_width = usable - self._path_width - self._label_width - len("  100.0% ████████  ") - 2

    def begin(self, manifest: Manifest) -> None:  # noqa: ARG002
        """Write the heading."""
        self._line(
            Text.assemble(
                (
                    f"{'path':<{self._path_width}}  {'label':<{self._label_width}}  {'probability':<15}  runners-up",
                    "bold",
                )
            )
        )

    def _write(self, record: Record) -> None:
        """Write one row."""
        path = self._tail(printable(record.path), self._path_width)
        if isinstance(record, Failure):
            room = max(20, self._label_width + 18 + self._rest_width)
            self._line(Text.assemble(path, "  ", (_fit("failed: " + printable(record.error), room), "red")))
            return
        label = _fit(printable(record.label) if record.label is not None else "(unknown)", self._label_width)
        cells = round(record.probability * 8)
        row = Text.assemble(
            path,
            "  ",
            (label, "bold" if record.label is not None else "dim"),
            "  ",
            f"{100 * record.probability:5.1f}% ",
            ("█" * cells + "·" * (8 - cells), "green"),
            "  ",
        )
        runners = record.top[1:] if record.label is not None else record.top
        rest = ""
        for ranked in runners:
            entry = f"{printable(ranked.label)} {100 * ranked.probability:.1f}%"
            extended = f"{rest}, {entry}" if rest else entry
            if cell_len(extended) > self._rest_width:
                # The best runner-up is always shown, its name shortened; further ones where they fit.
                if not rest and (room := self._rest_width - cell_len(f" {100 * ranked.probability:.1f}%")) > 2:
                    rest = f"{_fit(printable(ranked.label), room)} {100 * ranked.probability:.1f}%"
                break
            rest = extended
        self._line(Text.assemble(row, (rest, "dim")))

    def _line(self, text: Text) -> None:
        text.truncate(self._width)
        text.rstrip()
        self._console.print(text, soft_wrap=True)
        self._stream.write(self._text.getvalue().encode("utf-8", "backslashreplace"))
        self._stream.flush()
        self._text.seek(0)
        self._text.truncate()

    @staticmethod
    def _tail(text: str, width: int) -> str:
        """Shorten from the left: the end of a path tells files apart."""
        if cell_len(text) > width:
            while cell_len(text) > width - 1:
                text = text[max(1, (cell_len(text) - width) // 2) :]
            text = "…" + text
        return set_cell_size(text, width)


def _fit(text: str, width: int) -> str:
    """Pad or shorten to a number of terminal cells."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def make_writer(form: Format, stream: BinaryIO, layout: Layout) -> Writer:
    """Return the writer of a format."""
    if form in (Format.CSV, Format.TSV):
        return SeparatedWriter(stream, layout, form)
    if form is Format.TABLE:
        return TableWriter(stream, layout)
    return JsonWriter(stream, layout) if form is Format.JSON else JsonlWriter(stream, layout)
