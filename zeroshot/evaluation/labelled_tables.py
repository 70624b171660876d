"""Labelled images named in a table, by the columns ``path`` and ``label``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..images.csv_cells import unescape_path, unguard_cell
from ..images.csv_tables import parse_table
from ..images.natural_order import natural_key
from ..images.paths import identify
from ..images.sources.address_secrets import check_address
from ..images.sources.image_names import join_member, scheme_of, split_member
from ..messages import count_of, some_of
from ..prompts.labels import Label, LabelSet
from ..prompts.yaml_files import read_text
from .label_names import gather, join_keys
from .labelled_folders import Dataset

MAX_TABLE_BYTES = 500_000_000
"""Limit of a table of images: some millions of lines."""


def load_targets(source: str, names: Mapping[str, Label] | None = None, *, all_labels: bool = False) -> Dataset:
    """Read a CSV table with the columns ``path`` and ``label``; relative paths are resolved beside the table.

    A table with the column ``not`` is one of the corrections that ``explore`` appends to: the last line of a path
    counts, and one without a label says nothing.

    Args:
        source: The table.
        names: Words for its labels.
        all_labels: Keep the names that label no image.

    Raises:
        InputError: The table cannot be read, or lacks a column.
        LabelError: A label has no entry in ``names``.
    """
    header, rows = _read_table(source)
    path_column, label_column = header.index("path"), header.index("label")
    base = Path(source).parent
    key_of: dict[str, str] = {}
    name_of: dict[object, str] = {}
    seen: list[str] = []
    for number, row in rows:
        if len(row) <= max(path_column, label_column) or not row[path_column] or not row[label_column].strip():
            raise InputError(f"{source}, line {number}: no path or no label", "fix or remove the line")
        path, key = _locate(row[path_column], base), unguard_cell(row[label_column].strip())
        path = name_of.setdefault(identify(path) or path, path)  # a link is another name of its image
        if (other := key_of.setdefault(path, key)) != key:
            raise InputError(
                f"{source}, line {number}: {row[path_column]} is {key!r} here and {other!r} before",
                "an image has one label: remove one of the lines",
            )
        seen.append(path)
    if not key_of:
        raise InputError(f"{source} lists no images", "add lines of path,label")
    labels, place_of, unused = _gather(key_of.values(), names, all_labels=all_labels)
    keys, notes = join_keys(labels, place_of)
    notes += unused + _note_backslashes(rows, path_column, base)
    if several := [key for key in place_of if len(split_labels(key)) > 1]:
        notes.append(
            f"labels with a semicolon: {some_of(several)}; --multi-label reads them as several labels per image"
        )
    if again := [path for path, count in Counter(seen).items() if count > 1]:
        notes.append(f"{count_of(len(again), 'image')} named more than once, counted once: {some_of(again)}")
    targets = np.asarray([place_of[key] for key in key_of.values()], dtype=np.int64)
    return Dataset(tuple(key_of), targets, LabelSet(tuple(labels)), keys, tuple(notes))


def _read_table(source: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a table, and its lines with their numbers; of corrections those that hold."""
    header, rows = parse_table(read_text(Path(source), InputError, MAX_TABLE_BYTES), source)
    lines = _last_corrections(rows, header, source) if "not" in header else rows
    return header, [(number, row) for number, row in lines if any(map(str.strip, row))]


def _locate(named: str, base: Path) -> str:
    """Return where an image lies that a table names: beside the table, unless its name is an address."""
    if scheme_of(named.strip()):
        check_address(named.strip())
        return named.strip()
    parts = split_member(os.path.join(base, named.strip()))  # noqa: PTH118 - a member's own slashes stay as they are
    if parts and os.path.isfile(parts[0]):  # noqa: PTH113
        return join_member(str(Path(parts[0])), parts[1])
    # Blanks around a name are hardly part of it, but may be.
    name = named if named == named.strip() or os.path.lexists(base / named) else named.strip()
    plain = unescape_path(name)  # as `classify --format csv` writes names that are not UTF-8
    if plain != name and os.path.lexists(base / plain):
        return str(base / plain)
    return str(base / _with_slashes(name, base))


def _note_backslashes(rows: Iterable[tuple[int, list[str]]], column: int, base: Path) -> list[str]:
    """Return a note on the paths that are read with slashes."""
    named = [row[column] for _, row in rows if "\\" in row[column] and not scheme_of(row[column].strip())]
    turned = [name for name in named if _with_slashes(name.strip(), base) != name.strip()]
    if not turned:
        return []
    return [
        f"{count_of(len(turned), 'path')} with backslashes, which no file has, read with slashes: {some_of(turned)}"
    ]


def _with_slashes(name: str, base: Path) -> str:
    """Return a path of Windows with slashes, where a backslash separates nothing and only that file exists."""
    if os.sep == "\\" or "\\" not in name or os.path.lexists(base / name):
        return name
    turned = name.replace("\\", "/")
    return turned if os.path.lexists(base / turned) else name


def load_several_targets(source: str, names: Mapping[str, Label] | None = None, *, all_labels: bool = False) -> Dataset:
    r"""Read a table of images that may have several labels: ``;`` between them, several lines of an image, or both.

    ``\;`` is a semicolon inside a label and ``\\`` a backslash; an image without a label has an empty field. Where
    there is a column ``labels``, as `classify --multi-label` writes it, that one counts and not ``label``.

    Args:
        source: As for `load_targets`.
        names: Likewise.
        all_labels: Likewise.

    Raises:
        InputError: The table cannot be read, lacks a column, or names no label.
        LabelError: A label has no entry in ``names``.
    """
    header, rows = _read_table(source)
    path_column, label_column = header.index("path"), header.index("labels" if "labels" in header else "label")
    base = Path(source).parent
    labels_of: dict[str, list[str]] = {}
    name_of: dict[object, str] = {}
    for number, row in rows:
        if len(row) <= max(path_column, label_column) or not row[path_column]:
            raise InputError(
                f"{source}, line {number}: no path or no label", "write `path,` for an image without labels"
            )
        path = _locate(row[path_column], base)
        found = labels_of.setdefault(name_of.setdefault(identify(path) or path, path), [])
        found += [key for key in split_labels(unguard_cell(row[label_column])) if key not in found]
    spellings = sorted({key for found in labels_of.values() for key in found}, key=natural_key)
    if not spellings:
        raise InputError(f"{source} names no label", "write `path,cat;dog`")
    labels, place_of, unused = _gather(spellings, names, all_labels=all_labels)
    keys, notes = join_keys(labels, place_of)
    notes += unused + _note_backslashes(rows, path_column, base)
    several = tuple(tuple(dict.fromkeys(place_of[key] for key in found)) for found in labels_of.values())
    places = np.arange(len(several), dtype=np.int64)
    return Dataset(tuple(labels_of), places, LabelSet(tuple(labels)), keys, tuple(notes), several)


def _gather(
    spellings: Iterable[str], names: Mapping[str, Label] | None, *, all_labels: bool
) -> tuple[list[Label], dict[str, int], list[str]]:
    """Return labels and the place of each spelling as `gather` does, and a note on names that label no image."""
    found = sorted(set(spellings), key=natural_key)
    unused = [key for key in names or () if key not in set(found)]
    if not unused or names is None:
        return *gather(found, names, "label"), []
    labels, place_of = gather([*found, *unused] if all_labels else found, names, "label")
    kept = "kept as labels without images" if all_labels else "left out (--all-labels keeps them as labels)"
    return labels, place_of, [f"no image for {count_of(len(unused), 'name')}, {kept}: {some_of(unused)}"]


def split_labels(field: str) -> list[str]:
    r"""Split a field at each ``;`` that no backslash precedes; empty parts are left out."""
    parts = re.findall(r"(?:[^;\\]|\\.|\\$)+", field)
    return [re.sub(r"\\([;\\])", r"\1", part).strip() for part in parts if part.strip()]


def _last_corrections(rows: list[tuple[int, list[str]]], header: list[str], source: str) -> list[tuple[int, list[str]]]:
    """Return the lines of corrections that hold: for each path the last that names a label and was not taken back."""
    path, label, refused = header.index("path"), header.index("label"), header.index("not")
    held: dict[str, tuple[int, list[str]]] = {}
    for number, row in rows:
        if not row:
            continue
        if len(row) < len(header):
            raise InputError(f"{source}, line {number}: a column is missing", "fix or remove the line")
        if row[label].strip():
            held[row[path]] = (number, row)
        elif not row[refused].strip():
            held.pop(row[path], None)
    return list(held.values())
