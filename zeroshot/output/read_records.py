"""Reads records back from a results file, so that answers can be reviewed before they are acted on."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images.csv_cells import unescape_path, unguard_cell
from ..images.csv_tables import parse_table, read_header
from ..images.paths import identify
from ..messages import some_of
from ..results import Failure, Prediction, Record
from ..sort.names import REVIEW

_HINT = "give a file that `classify --output` wrote, or one with the columns path and label"
_TSV_ESCAPE = re.compile(r"\\(?:([\\tnr])|u(dc[89a-f][0-9a-f]))")

_UNKNOWN = Prediction("", None, 0.0, ()).status
_COLUMNS = ("path", "label", "probability", "error", "status", "label_1")

Row = tuple[str, dict[str, Any]]
"""Where in the file a record stands, and what it says."""


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """Read the records of a jsonl, json, csv or tsv file; of each its path, its label and the label's probability.

    The probability is NaN where none was measured for the label: it was set by hand, over another or in a table
    without numbers. Blanks around labels are dropped, labels that differ in case are one, and ``_review`` is none.
    A line that was cut off by an interrupted run is an error like any other: nothing is sorted by half a file.

    Returns:
        The records, and a line for each thing in them that was not taken as it stands.

    Raises:
        InputError: The file cannot be read, a record has no path or no label, or an image has two labels.
    """
    text = _read_text(path)
    records: list[Record] = []
    places: list[str] = []
    try:
        for place, row in _rows(path, text):
            records.append(_record(row))
            places.append(place)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else error
        if isinstance(error, json.JSONDecodeError):
            what = "not JSON; a list of paths has no labels"
        raise InputError(f"{path}: record {len(records) + 1}: {what}", _HINT) from error
    records, notes = _join_labels(records)
    _check_contradictions(path, records, places)
    return records, notes


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # what spreadsheets call Unicode text
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", _HINT) from error


def _rows(path: Path, text: str) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        header, lines = parse_table(text, str(path))
        return _table_rows(header, ((number, cells) for number, cells in lines if any(map(str.strip, cells))))
    if suffix == ".tsv":
        first, *rest = text.removesuffix("\n").split("\n")
        header = read_header(first.rstrip("\r"), "\t", str(path))
        cells = ((number, line.rstrip("\r").split("\t")) for number, line in enumerate(rest, 2) if line.strip())
        return _table_rows(header, cells, tsv=True)
    return _json_rows(path, text, whole=suffix == ".json")


def _json_rows(path: Path, text: str, *, whole: bool) -> Iterator[Row]:
    if whole:
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("records"), list):
            raise InputError(f"{path} is not a document of `zeroshot classify`", _HINT)
        rows = ((f"record {number}", row) for number, row in enumerate(document["records"], 1))
    else:
        lines = enumerate(text.split("\n"), 1)
        rows = ((f"line {number}", json.loads(line)) for number, line in lines if line.strip())
    for place, row in rows:
        if not isinstance(row, dict):
            raise TypeError("not a JSON object")
        yield place, row


def _table_rows(header: list[str], lines: Iterator[tuple[int, list[str]]], *, tsv: bool = False) -> Iterator[Row]:
    wanted = [place for place, name in enumerate(header) if name in _COLUMNS]
    for number, cells in lines:
        if len(cells) < len(header):
            raise ValueError("it has too few columns")
        row: dict[str, Any] = {header[place]: _unescape_tsv(cells[place]) if tsv else cells[place] for place in wanted}
        if not tsv:
            row["path"] = unescape_path(row["path"])
            for name in row.keys() & {"label", "label_1"}:
                row[name] = unguard_cell(row[name])
        first = row.pop("label_1", "")
        row |= {"top": [{"label": first}]} if first else {}
        yield (
            f"line {number}",
            {key: value for key, value in row.items() if value or key not in ("error", "probability")},
        )


def _unescape_tsv(cell: str) -> str:
    def plain(found: re.Match[str]) -> str:
        return chr(int(found[2], 16)) if found[2] else {"t": "\t", "n": "\n", "r": "\r"}.get(found[1], found[1])

    return _TSV_ESCAPE.sub(plain, cell)


def _record(row: dict[str, Any]) -> Record:
    path = row["path"]
    if not isinstance(path, str) or not path:
        raise ValueError("its path is empty" if path == "" else "its path is not text")
    if row.get("error"):
        return Failure(path, str(row["error"]))
    if not isinstance(row["label"] or "", str):
        raise ValueError("its label is not text")
    label = (row["label"] or "").strip()
    top = row.get("top") or [{}]
    # One that was unknown has a label only since somebody wrote it there, also where that is the likeliest.
    by_hand = label and (row.get("status") == _UNKNOWN or ("label" in top[0] and str(top[0]["label"]).strip() != label))
    measured = math.nan if by_hand or row.get("probability") is None else _number(row["probability"])
    return Prediction(path, label if label and label != REVIEW else None, measured, ())


def _number(given: object) -> float:
    """Return a number, which a spreadsheet may have written with a decimal comma, or as a percentage."""
    text = str(given).strip()
    if "," in text and "." not in text:
        text = text.replace(",", ".")
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"its probability is no number: {text!r}") from None


def _join_labels(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Give labels that differ in case alone the spelling of the first of them, and say which."""
    first: dict[str, str] = {}
    others: dict[str, str] = {}
    joined: list[Record] = []
    for record in records:
        if isinstance(record, Prediction) and record.label:
            spelling = first.setdefault(record.label.casefold(), record.label)
            if spelling != record.label:
                others[record.label] = spelling
                record = replace(record, label=spelling)
        joined.append(record)
    said = some_of([f"{other} as {spelling}" for other, spelling in others.items()])
    return joined, [f"labels that differ in case are one: {said}"] if others else []


def _check_contradictions(path: Path, records: list[Record], places: list[str]) -> None:
    """Refuse two labels for one image.

    Raises:
        InputError: Names both lines.
    """
    seen: dict[object, tuple[str, str | None]] = {}
    for place, record in zip(places, records, strict=True):
        if isinstance(record, Prediction):
            before, label = seen.setdefault(identify(record.path) or record.path, (place, record.label))
            if label != record.label:
                here, there = (repr(one) if one else "without a label" for one in (record.label, label))
                raise InputError(
                    f"{path}, {place}: {record.path} is {here} here and {there} in {before}",
                    "an image has one label: remove one of the two",
                )
