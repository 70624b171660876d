"""The images that a search found, in the formats that records have."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, BinaryIO

from ...encoder import EncoderSpec
from ...enums import Format
from ...images.csv_cells import path_cell
from ...messages import printable
from ...results import significant
from ...search import Found
from .json_lines import to_json
from .records import format_row

SEARCH_FORMAT = "zeroshot-search"
JSON_VERSION = 1


def write_hits(
    found: Found,
    form: Format,
    stream: BinaryIO,
    spec: EncoderSpec,
    query: dict[str, Any],
    options: dict[str, Any],
    *,
    terminal: bool = False,
) -> None:
    """Write what was found, nearest first: ``path`` and ``similarity``; in JSON also what decided that.

    Args:
        found: The images.
        form: The format.
        stream: Where it is written.
        spec: The model.
        query: The text or the images that were searched for.
        options: How images were opened.
        terminal: Whether it is shown on a terminal: nothing is printed that the terminal would act on.
    """
    rows = [{"path": hit.path, "similarity": significant(hit.similarity)} for hit in found.hits]
    if form is Format.JSON:
        document = {
            "format": SEARCH_FORMAT,
            "version": JSON_VERSION,
            "query": query,
            "model": asdict(spec) | {"fingerprint": spec.fingerprint},
            "options": options,
            "searched": found.searched,
            "failures": [asdict(failure) for failure in found.failures],
            "hits": rows,
        }
        stream.write(to_json(document, indent=1) + b"\n")
    elif form is Format.JSONL:
        stream.writelines(to_json(row) + b"\n" for row in rows)
    elif form is Format.TABLE:
        lines = (f"{hit.similarity:7.4f}  {printable(hit.path)}\n" for hit in found.hits)
        stream.writelines(line.encode("utf-8", "backslashreplace") for line in lines)
    else:
        stream.write(format_row(["path", "similarity"], form))
        for hit in found.hits:
            cells = [path_cell(hit.path, form), f"{hit.similarity:.6g}"]
            stream.write(format_row(cells, form, terminal=terminal))
