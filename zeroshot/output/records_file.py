"""Records read back from a results file, so that answers can be reviewed before they are acted on."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..results import Failure, Prediction, Record
from .render.records import unguard_cell

_HINT = "give a file that `classify --output` wrote, or one with the columns path and label"
_ESCAPED_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")
"""How CSV and TSV write a byte of a file's name that is not UTF-8."""
_TSV_ESCAPE = re.compile(r"\\([\\tnr])")


def read_records(path: Path) -> list[Record]:
    """Read the records of a jsonl, json, csv or tsv file; of each its path, its label and the label's probability.

    A line that was cut off by an interrupted run is an error like any other: nothing is sorted by half a file.

    Raises:
        InputError: The file cannot be read, or a record has no path or no label.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", _HINT) from error
    suffix = path.suffix.lower()
    read = _read_table(text, suffix) if suffix in (".csv", ".tsv") else _read_json(text, whole=suffix == ".json")
    records: list[Record] = []
    try:
        records.extend(map(_record, read))
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: record {len(records) + 1}: {what}", _HINT) from error
    return records


def _read_json(text: str, *, whole: bool) -> Iterator[dict[str, Any]]:
    rows = json.loads(text)["records"] if whole else (json.loads(line) for line in text.split("\n") if line.strip())
    for row in rows:
        if not isinstance(row, dict):
            raise TypeError("not a JSON object")
        yield row


def _read_table(text: str, suffix: str) -> Iterator[dict[str, Any]]:
    if suffix == ".csv":
        rows = csv.reader(io.StringIO(text, newline=""))
    else:
        rows = iter([_unescape_tsv(cell) for cell in line.split("\t")] for line in text.removesuffix("\n").split("\n"))  # type: ignore[assignment]
    header = next(rows, [])
    for cells in rows:
        if len(cells) < len(header):
            raise ValueError("it has too few columns")
        row: dict[str, Any] = dict(zip(header, cells, strict=False))
        row["path"] = _ESCAPED_BYTE.sub(lambda found: chr(int(found[1], 16)), row["path"])
        if suffix == ".csv":
            row["label"] = unguard_cell(row["label"])
        yield {key: value for key, value in row.items() if value != "" or key not in ("error", "probability")}


def _unescape_tsv(cell: str) -> str:
    return _TSV_ESCAPE.sub(lambda found: {"t": "\t", "n": "\n", "r": "\r"}.get(found[1], found[1]), cell)


def _record(row: dict[str, Any]) -> Record:
    path = row["path"]
    if not isinstance(path, str) or not path:
        raise ValueError("its path is not text")
    if row.get("error"):
        return Failure(path, str(row["error"]))
    label = row["label"] or None
    if label is not None and not isinstance(label, str):
        raise ValueError("its label is not text")
    return Prediction(path, label, float(row.get("probability", 1.0)), ())
