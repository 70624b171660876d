"""Groups of duplicates, in the formats that records have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

from ...duplicates import Copy, Duplicates
from ...enums import Format
from ...images.csv_cells import path_cell
from ...messages import printable
from ...results import significant
from .json_lines import to_json
from .records import format_row

DUPLICATES_FORMAT = "zeroshot-duplicates"
JSON_VERSION = 1
_COLUMNS = ("group", "path", "best", "exact", "similarity", "width", "height", "size")


def write_duplicates(
    found: Duplicates, form: Format, stream: BinaryIO, options: dict[str, Any], *, terminal: bool = False
) -> None:
    """Write a row for each image of a group, best copy first; in JSON also what decided that.

    Args:
        found: The groups.
        form: The format.
        stream: Where it is written.
        options: What was asked for.
        terminal: Whether it is shown on a terminal: nothing is printed that the terminal would act on.
    """
    rows = list(_rows(found))
    if form is Format.JSON:
        document = {
            "format": DUPLICATES_FORMAT,
            "version": JSON_VERSION,
            "options": options,
            "searched": found.searched,
            "content_only": found.content_only,
            "failures": [asdict(failure) for failure in found.failures],
            "images": rows,
        }
        stream.write(to_json(document, indent=1) + b"\n")
    elif form is Format.JSONL:
        stream.writelines(to_json(row) + b"\n" for row in rows)
    elif form is Format.TABLE:
        stream.writelines(f"{line}\n".encode("utf-8", "backslashreplace") for line in _lines(rows))
    else:
        stream.write(format_row(_COLUMNS, form))
        for row in rows:
            cells = [str(row["group"]), path_cell(row["path"], form), *(_cell(row[key]) for key in _COLUMNS[2:])]
            stream.write(format_row(cells, form, terminal=terminal))


def _rows(found: Duplicates) -> Iterator[dict[str, Any]]:
    for number, group in enumerate(found.groups, 1):
        yield _row(number, group.best, best=True)
        yield from (_row(number, copy, best=False) for copy in group.others)


def _row(number: int, copy: Copy, *, best: bool) -> dict[str, Any]:
    return {
        "group": number,
        "path": copy.path,
        "best": best,
        "exact": copy.is_exact,
        "similarity": significant(copy.similarity),
        "width": copy.width,
        "height": copy.height,
        "size": copy.size,
    }


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        how = "best " if row["best"] else "copy " if row["exact"] else f"{row['similarity']:.3f}"
        shape = f"{row['width']} x {row['height']}"
        yield f"{row['group']:5d}  {how}  {shape:>13}  {row['size']:>11,}  {printable(row['path'])}"
