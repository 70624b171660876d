"""Records as bytes: one writer a format. Nothing else in the package writes results.

Text is UTF-8 whatever the locale; bytes of a file name that are not UTF-8 are written as ``\\udcXX``, which JSON
reads back to the same name and which no other format can mistake for something else.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from .choices import Field, Format
from .results import Failure, Manifest, Ranked, Record

CLASSIFY_FORMAT = "zeroshot-classify"
JSON_VERSION = 1


def significant(value: float) -> float:
    """Round to 6 significant digits: what float32 carries, without its noise."""
    return float(f"{value:.6g}")


def to_json(value: Any, indent: int | None = None) -> bytes:
    """Encode plain data as JSON in UTF-8; NaN is refused, lone surrogates become ``\\udcXX`` escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Escape what a terminal would act on: control characters and undecodable bytes."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode() for character in text)


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

    def begin(self, manifest: Manifest) -> None:
        """Write what stands before the first record."""

    @abstractmethod
    def write(self, record: Record) -> None:
        """Write one record."""

    def end(self, *, complete: bool) -> None:
        """Write what stands after the last record; not complete when the run was interrupted."""


class JsonlWriter(Writer):
    """One JSON object a line."""

    def write(self, record: Record) -> None:
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

    def write(self, record: Record) -> None:
        """Write one element of the list."""
        self._stream.write((b",\n  " if self._written else b"\n  ") + to_json(record_to_dict(record, self._layout.fields)))
        self._written += 1
        self._failed += isinstance(record, Failure)

    def end(self, *, complete: bool) -> None:
        """Close the list and the document."""
        summary = {"inputs": self._written, "failed": self._failed, "complete": complete}
        self._stream.write(b'\n ],\n "summary": ' + to_json(summary) + b"\n}\n")


class SeparatedWriter(Writer):
    """CSV or TSV: a header, then a row a record; the answer, the reason of a failure, then the ranked labels."""

    def __init__(self, stream: BinaryIO, layout: Layout, dialect: str) -> None:
        super().__init__(stream, layout)
        self._dialect = dialect

    def begin(self, manifest: Manifest) -> None:
        """Write the header."""
        names = [str(field) for field in self._layout.fields]
        ranks = [f"{name}_{rank}" for rank in range(1, self._layout.top_k + 1) for name in ("label", *names)]
        self._row(["path", "label", *names, "error", *ranks])

    def write(self, record: Record) -> None:
        """Write one row."""
        fields = self._layout.fields
        if isinstance(record, Failure):
            self._row([record.path, "", *[""] * len(fields), record.error, *[""] * (self._layout.top_k * (1 + len(fields)))])
            return
        best = [f"{value:.6g}" for value in _numbers(record.top[0], fields).values()]
        ranked = [cell for entry in record.top for cell in (entry.label, *(f"{v:.6g}" for v in _numbers(entry, fields).values()))]
        self._row([record.path, record.label or "", *best, "", *ranked])

    def _row(self, cells: Sequence[str]) -> None:
        text = io.StringIO()
        if self._dialect == "tsv":
            # As the tabular conventions have it: no quoting, the separators themselves escaped.
            text.write("\t".join(cell.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r") for cell in cells) + "\n")
        else:
            csv.writer(text, lineterminator="\n").writerow(cells)
        self._stream.write(text.getvalue().encode("utf-8", "backslashreplace"))
        self._stream.flush()


class TableWriter(Writer):
    """Aligned rows for people: path, label, probability with a bar, runners-up."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        super().__init__(stream, layout)
        self._text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)
        self._console = Console(
            file=self._text, width=10_000, force_terminal=layout.colour, no_color=not layout.colour, highlight=False, markup=False, emoji=False
        )
        usable = max(layout.width, 40)
        self._label_width = max(10, min(24, usable // 5))
        self._path_width = max(12, usable * 3 // 8)
        self._rest_width = usable - self._path_width - self._label_width - len("  100.0% ████████  ") - 2

    def begin(self, manifest: Manifest) -> None:
        """Write the heading."""
        self._line(Text.assemble((f"{'path':<{self._path_width}}  {'label':<{self._label_width}}  {'probability':<16}  runners-up", "bold")))

    def write(self, record: Record) -> None:
        """Write one row."""
        path = self._tail(printable(record.path), self._path_width)
        if isinstance(record, Failure):
            room = max(20, self._label_width + 18 + self._rest_width)
            self._line(Text.assemble(path, "  ", (_fit("failed: " + printable(record.error), room), "red")))
            return
        label = _fit(printable(record.label) if record.label is not None else "(unknown)", self._label_width)
        cells = round(record.probability * 8)
        row = Text.assemble(
            path, "  ", (label, "bold" if record.label is not None else "dim"), "  ",
            f"{100 * record.probability:5.1f}% ", ("█" * cells + "·" * (8 - cells), "green"), "  ",
        )
        runners = record.top[1:] if record.label is not None else record.top
        rest = ""
        for ranked in runners:
            entry = f"{printable(ranked.label)} {100 * ranked.probability:.1f}%"
            extended = f"{rest}, {entry}" if rest else entry
            if cell_len(extended) > self._rest_width:
                break
            rest = extended
        self._line(Text.assemble(row, (rest, "dim")))

    def end(self, *, complete: bool) -> None:
        """Leave the stream open for its owner."""
        self._text.detach()

    def _line(self, text: Text) -> None:
        text.rstrip()
        self._console.print(text, soft_wrap=True)
        self._stream.flush()

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
        return SeparatedWriter(stream, layout, str(form))
    return {Format.TABLE: TableWriter, Format.JSON: JsonWriter, Format.JSONL: JsonlWriter}[form](stream, layout)


