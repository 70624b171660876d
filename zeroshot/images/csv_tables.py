"""Reads tables of images, by the columns ``path`` and ``label``, as they are written by hand and by spreadsheets."""

from __future__ import annotations

import csv
import io
import re

from ..errors import InputError
from ..messages import some_of

_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=([,;\t|])\"?[,;\t|]*(?:\r\n|\r|\n)", re.IGNORECASE)


def parse_table(text: str, source: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the columns of a table, in small letters, and the cells of its lines with their numbers, from the second.

    Columns are separated by commas, by semicolons, as spreadsheets write them where a comma stands in numbers, or by
    tabs. A line ``sep=;`` before the names, which Excel reads and writes, says which mark it is.

    Args:
        text: The table.
        source: What it is called in messages.

    Raises:
        InputError: It is none, or lacks a column.
    """
    said = _SEPARATOR_LINE.match(text)
    above = 1 if said else 0
    text = text[said.end() :] if said else text
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    if "\0" in first:
        raise InputError(f"{source} is UTF-16, or no text", "save it as UTF-8")
    if first.lstrip().startswith(("{", "[")):
        raise InputError(f"{source} is JSON, not a table", "write a line `path,label`, then a line for each image")
    delimiter = said[1] if said else max(",;\t", key=lambda mark: {"path", "label"} <= {*_cells(first.lower(), mark)})
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    before = 0
    try:
        for row in reader:
            rows.append((reader.line_num + above, row))
            before = reader.line_num
    except csv.Error as error:
        open_quote = "; a quote that is not closed?" if reader.line_num > before + 1 else ""
        raise InputError(f"{source}, line {before + 1 + above}: {error}{open_quote}", "fix the line") from error
    header = read_header(first, delimiter, source)
    for number, row in rows[1:]:
        if any(map(str.strip, row[len(header) :])):
            raise InputError(
                f"{source}, line {number}: {len(row)} fields, where the first line names {len(header)}",
                f'put a field that holds "{delimiter}" in double quotes' if delimiter != "\t" else "fix the line",
            )
    return header, rows[1:]


def read_header(line: str, delimiter: str, source: str) -> list[str]:
    """Return the names of the columns that a first line gives, in small letters.

    Raises:
        InputError: It lacks one of the columns path and label, or has two of a name.
    """
    names = _cells(line, delimiter)
    header = [name.lower() for name in names]
    if "path" not in header or "label" not in header:
        seen = some_of([repr(name) for name in names]) if any(names) else "nothing"
        raise InputError(
            f"{source}: the first line names no columns path and label, but {seen}", "write `path,label` there"
        )
    for name in ("path", "label"):
        if header.count(name) > 1:
            raise InputError(f"{source}: the first line names two columns {name}", "rename one of them")
    return header


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
