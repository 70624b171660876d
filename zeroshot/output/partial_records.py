"""Records in a file that a run left: which are whole, and which image each is of."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from ..enums import Format
from ..results import Failure, Manifest
from .render.choose_writer import make_writer
from .render.records import Layout, format_row
from .resume_manifest import FORMAT, VERSION

FORMATS = (Format.JSONL, Format.CSV, Format.TSV)
"""Formats that can be continued: one record per line."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything besides the images that decides a results file's bytes.

    Attributes:
        manifest: Model, prompts, labels and options.
        form: One of `FORMATS`.
        layout: Fields and ranks shown.
        batch_size: Images encoded together.
    """

    manifest: Manifest
    form: Format
    layout: Layout
    batch_size: int

    def document(self) -> dict[str, Any]:
        """Return it as it reads back from JSON."""
        plain = {
            "format": FORMAT,
            "version": VERSION,
            "manifest": asdict(self.manifest),
            "output": {
                "format": str(self.form),
                "fields": [str(field) for field in self.layout.fields],
                "top_k": self.layout.top_k,
                "batch_size": self.batch_size,
                "header": header_of(self).decode() or None,
            },
        }
        document: dict[str, Any] = json.loads(json.dumps(plain))
        return document


def beginning(path: str, recipe: Recipe) -> bytes:
    """Return what every record of a path begins with."""
    buffer = io.BytesIO()
    make_writer(recipe.form, buffer, recipe.layout).write(Failure(path, ""))
    return beginning_of(buffer.getvalue(), recipe.form)


def beginning_of(record: bytes, form: Format) -> bytes:
    """Return the part of a record that tells its path."""
    if form is Format.JSONL:
        return record[: record.index(b'"status"')]
    if form is Format.TSV:
        return record[: record.index(b"\t") + 1]
    cell = next(csv.reader(io.StringIO(record.decode("utf-8"), newline="")))[0]
    return format_row([cell], form).removesuffix(b"\n") + b","


def whole_records(file: BinaryIO, form: Format) -> Iterator[tuple[bytes, bool]]:
    """Yield each whole record, with whether it is a failure, up to the first that is not whole; no header."""
    waiting = b""
    header: list[str] | None = [] if form is Format.JSONL else None
    for line in file:
        waiting += line
        if not waiting.endswith(b"\n"):
            return
        if form is Format.CSV and waiting.count(b'"') % 2:
            continue  # a newline inside quotes
        try:
            cells = _cells(waiting, form)
            if header is None:
                header = cells
            elif form is Format.JSONL:
                if not isinstance(record := json.loads(waiting), dict):
                    return
                yield waiting, "error" in record
            elif len(cells) > header.index("error"):
                yield waiting, bool(cells[header.index("error")])
            else:
                return
        except (ValueError, RecursionError):
            return
        waiting = b""


def _cells(row: bytes, form: Format) -> list[str]:
    text = row.decode("utf-8")
    if form is Format.JSONL:
        return []
    return (
        text.removesuffix("\n").split("\t") if form is Format.TSV else next(csv.reader(io.StringIO(text, newline="")))
    )


def count_records(file: BinaryIO, recipe: Recipe, *, whole_batches: bool) -> tuple[int, int, int]:
    """Count the records that can be continued after.

    Returns:
        Records, failures among them, and the byte where they end; all 0 if not one batch is whole.
    """
    start = 0 if recipe.form is Format.JSONL else len(header_of(recipe))
    done = failed = 0
    end = start
    kept = (0, 0, 0)
    for record, is_failure in whole_records(file, recipe.form):
        done, failed, end = done + 1, failed + is_failure, end + len(record)
        if not whole_batches or done % recipe.batch_size == 0:
            kept = (done, failed, end)
    return kept


def header_of(recipe: Recipe) -> bytes:
    """Return what a file begins with, before its first record."""
    buffer = io.BytesIO()
    make_writer(recipe.form, buffer, recipe.layout).begin(recipe.manifest)
    return buffer.getvalue()
