r"""Writes records as bytes: the writers of JSON, JSON lines, CSV, TSV and lists of paths.

Text is UTF-8 whatever the locale; bytes of a file name that are not UTF-8 are written as ``\udcXX``, which JSON
reads back to the same name and which no other format can mistake for something else.
"""

from __future__ import annotations

import csv
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO

from ...enums import Field, Format
from ...images.csv_cells import guard_cell, path_cell
from ...messages import printable
from ...result_columns import Answers
from ...results import Failure, Manifest, Ranked, Record
from .json_lines import LineTemplate, to_json

CLASSIFY_FORMAT = "zeroshot-classify"
JSON_VERSION = 1

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a record is shown.

    Attributes:
        fields: Numbers given for each label; the probability is always among them.
        top_k: Labels listed for each image.
        width: Columns of the terminal, for tables; None where it is not shown on one, so that nothing is shortened.
        terminal: Whether it is shown on a terminal: in colours, and nothing is printed that the terminal would act on.
        only: Labels whose records are written; all records where there are none.
        path_end: What ends each path where nothing but paths is written, those of images that got a label.
        several: An image may have several labels, which are listed.
    """

    fields: tuple[Field, ...] = (Field.PROBABILITY,)
    top_k: int = 5
    width: int | None = 80
    terminal: bool = False
    only: tuple[str, ...] = ()
    path_end: bytes = b""
    several: bool = False


def join_labels(labels: Sequence[str]) -> str:
    r"""Return several labels in one cell: ``;`` between them, ``\;`` and ``\\`` inside one; as `eval` reads them."""
    return ";".join(label.replace("\\", "\\\\").replace(";", "\\;") for label in labels)


class Writer(ABC):
    """Writes one run's records to a stream as they come."""

    def __init__(self, stream: BinaryIO, layout: Layout) -> None:
        self._stream = stream
        self._layout = layout

    def begin(self, manifest: Manifest) -> None:  # noqa: B027 - a format may have nothing to write there
        """Write what stands before the first record."""

    def write(self, record: Record) -> None:
        """Write one record, whole, and let the reader of a pipe have it."""
        self._put(self._wanted(record))

    def write_all(self, answers: Answers) -> None:
        """Write the records of many inputs at once."""
        self._put(b"".join(map(self._wanted, answers.records())))

    def _put(self, content: bytes) -> None:
        if content:
            self._stream.write(content)
            self._stream.flush()

    def _wanted(self, record: Record) -> bytes:
        """Return the bytes of a record, if it is wanted, with as many ranked labels as the layout shows."""
        if isinstance(record, Failure):
            return b"" if self._layout.only else self._render(record)
        if self._layout.only and not set(record.labels or (record.label,)).intersection(self._layout.only):
            return b""
        n_shown = self._layout.top_k
        return self._render(record if len(record.top) <= n_shown else replace(record, top=record.top[:n_shown]))

    @abstractmethod
    def _render(self, record: Record) -> bytes:
        """Return the bytes of one record as it is."""

    def end(self, *, complete: bool) -> None:  # noqa: B027
        """Write what stands after the last record; not complete when the run was interrupted."""


class JsonlWriter(Writer):
    """One JSON object a line."""

    def write_all(self, answers: Answers) -> None:
        """Write many lines at once."""
        if self._layout.only or not LineTemplate.fits(answers):
            super().write_all(answers)
        else:
            self._put(LineTemplate(answers.names, self._layout.fields, self._layout.top_k).fill(answers))

    def _render(self, record: Record) -> bytes:
        """Return one line."""
        return to_json(record.to_dict(self._layout.fields)) + b"\n"


class JsonWriter(Writer):
    """One versioned document: manifest, records, summary. It is valid even when the run is interrupted."""

    _inputs = 0
    _written = 0
    _failed = 0

    def begin(self, manifest: Manifest) -> None:
        """Open the document."""
        head = to_json({"format": CLASSIFY_FORMAT, "version": JSON_VERSION, "manifest": asdict(manifest)}, indent=1)
        self._stream.write(head.removesuffix(b"\n}") + b',\n "records": [')

    def _wanted(self, record: Record) -> bytes:
        """Count an input, whether its record is wanted or not."""
        self._inputs += 1
        self._failed += isinstance(record, Failure)
        return super()._wanted(record)

    def _render(self, record: Record) -> bytes:
        """Return one element of the list."""
        self._written += 1
        return (b",\n  " if self._written > 1 else b"\n  ") + to_json(record.to_dict(self._layout.fields))

    def end(self, *, complete: bool) -> None:
        """Close the list and the document."""
        summary = {"inputs": self._inputs, "failed": self._failed, "complete": complete}
        self._stream.write(b'\n ],\n "summary": ' + to_json(summary) + b"\n}\n")


class SeparatedWriter(Writer):
    """CSV or TSV: a header, then one row per record; answer, error, status, then the ranked labels."""

    def __init__(self, stream: BinaryIO, layout: Layout, dialect: Format) -> None:
        super().__init__(stream, layout)
        self._dialect = dialect

    def begin(self, manifest: Manifest) -> None:  # noqa: ARG002
        """Write the header."""
        names = [str(field) for field in self._layout.fields]
        ranks = [f"{name}_{rank}" for rank in range(1, self._layout.top_k + 1) for name in ("label", *names)]
        several = ["labels"] if self._layout.several else []
        self._put(self._row(["path", "label", *names, "error", "status", *several, *ranks]))

    def _render(self, record: Record) -> bytes:
        """Return one row."""
        fields, form = self._layout.fields, self._dialect
        path = path_cell(record.path, form)
        if isinstance(record, Failure):
            blank = [""] * (self._layout.top_k * (1 + len(fields)) + self._layout.several)
            return self._row(
                [path, "", *[""] * len(fields), guard_cell(record.error, "'", form), record.status, *blank]
            )
        row = [path, guard_cell(record.label or "", "'", form), *_formatted(record.top[0], fields), "", record.status]
        row += [guard_cell(join_labels(record.labels or ()), "'", form)] if self._layout.several else []
        for ranked in record.top:
            row += [guard_cell(ranked.label, "'", form), *_formatted(ranked, fields)]
        return self._row(row)

    def _row(self, cells: Sequence[str]) -> bytes:
        return format_row(cells, self._dialect, terminal=self._layout.terminal)


def format_row(cells: Sequence[str], form: Format, *, terminal: bool = False) -> bytes:
    """Return one line of CSV or TSV; for a terminal, without what that would act on."""
    if form is Format.TSV:
        # As the tabular conventions have it: no quoting, the separators themselves escaped.
        escaped = (cell.translate(_TSV_ESCAPES) for cell in cells)
        line = "\t".join(printable(cell) if terminal else cell for cell in escaped)
    else:
        cells = [printable(cell) for cell in cells] if terminal else cells
        # Rows end in LF, for the tools of a shell; the writer quotes a CR in a cell only where CR ends its rows.
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerow(cells)
        line = text.getvalue().removesuffix("\r\n")
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _formatted(ranked: Ranked, fields: Sequence[Field]) -> list[str]:
    return [f"{value:.6g}" for value in ranked.numbers(fields).values()]


class PathWriter(Writer):
    """The path of each image that got a label, for ``xargs`` and the like."""

    def _render(self, record: Record) -> bytes:
        """Return one path, byte for byte as the file is called."""
        if isinstance(record, Failure) or record.label is None:
            return b""
        shown = self._layout.terminal and self._layout.path_end == b"\n"
        path = printable(record.path).encode("utf-8", "backslashreplace") if shown else os.fsencode(record.path)
        return path + self._layout.path_end
