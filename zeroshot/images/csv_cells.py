r"""Turns labels and paths into cells of a CSV that no spreadsheet runs as a formula, and back."""

from __future__ import annotations

import re

from ..enums import Format

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that make a spreadsheet take a cell for a formula."""

_BEFORE_BYTE = re.compile(r"\\+(?=udc[89a-f][0-9a-f]|[\udc80-\udcff])")
_ESCAPED_BYTE = re.compile(r"(\\+)u(dc[89a-f][0-9a-f])")
"""Backslashes before a byte of a file's name that is not UTF-8, and how CSV writes such a byte."""


def guard_cell(text: str, prefix: str, form: Format) -> str:
    """Keep a spreadsheet from running a cell of a CSV as a formula.

    A relative path gets ``./``, which names the same file; a label an apostrophe, which spreadsheets do not show.
    """
    return prefix + text if form is Format.CSV and text.startswith(_FORMULA) else text


def path_cell(path: str, form: Format) -> str:
    r"""Return a path as a cell: no formula; in CSV, backslashes before what is or looks like a byte's escape doubled.

    In TSV every backslash is doubled, later on.
    """
    cell = guard_cell(path, "./", form)
    return _BEFORE_BYTE.sub(lambda found: found[0] * 2, cell) if form is Format.CSV else cell


def unescape_path(cell: str) -> str:
    r"""Return the path that `path_cell` and the encoding of a CSV made ``\udcXX`` escapes of."""

    def plain(found: re.Match[str]) -> str:
        half, odd = divmod(len(found[1]), 2)
        return "\\" * half + (chr(int(found[2], 16)) if odd else f"u{found[2]}")

    return _ESCAPED_BYTE.sub(plain, cell)


def unguard_cell(text: str) -> str:
    """Return a label as it was before `guard_cell`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
