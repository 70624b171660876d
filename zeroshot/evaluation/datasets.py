"""Labelled images: labels come from folder names or from a table.

Folders are matched to names by name, never by position, and every mapping is returned to be printed: one missing
folder must not shift all the labels behind it.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError, LabelError, nearest
from ..images.camera import describe_passed_over
from ..images.paths import is_folder, is_skipped, natural_key, walk
from ..images.sources.names import is_archive, scheme_of
from ..messages import some_of
from ..models import open_clip_tables
from ..prompts.labels import IMAGENET, Label, LabelSet, normalise
from ..prompts.spelling import clean_word
from ..prompts.yaml_files import SUFFIXES, parse_yaml, read_text

MAX_TABLE_BYTES = 500_000_000
"""Limit of a table of images: some millions of lines."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images with their true labels.

    Attributes:
        paths: In order of label, then naturally.
        targets: Label index of each image, shape ``(n_images,)``.
        labels: The labels, one for each folder or table entry.
        keys: The folder's name or table's spelling that each label comes from.
        notes: What did not match, one line each.
        several: The label indices of each image, where it may have several; ``targets`` are then places in it.
    """

    paths: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    labels: LabelSet
    keys: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    several: tuple[tuple[int, ...], ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images each label has."""
        given = [index for labels in self.several for index in labels] if self.several else self.targets.tolist()
        counted = Counter(given)
        return tuple(counted[index] for index in range(len(self.keys)))


def load_label_names(source: str) -> dict[str, Label]:
    """Load the words for folder names: ``imagenet``, YAML/JSON (``key: name``, ``key: [name, alias, ...]``), or lines.

    In a text file each line is a folder's name, then a tab, comma or space, then the words. A file of the name
    ``imagenet`` is ``./imagenet``.

    Raises:
        LabelError: The file cannot be read or has another shape.
    """
    if source == IMAGENET:
        return {synset: Label(name) for synset, name in open_clip_tables.imagenet_names().items()}
    path = Path(source)
    text = read_text(path, LabelError)
    if path.suffix.lower() in SUFFIXES:
        document = parse_yaml(text, source, LabelError)
        if not isinstance(document, dict):
            raise LabelError(f"{source}: expected a mapping from folder names to labels", "write `n01440764: tench`")
        return {str(key): _label_of(words, f"{source}: {key}") for key, words in document.items()}
    names: dict[str, Label] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        # A tab is unmistakable; else the earlier of comma and space: `n01440764 tench, Tinca tinca` has both.
        key, *rest = re.split("\t" if "\t" in line.strip() else "[, ]", line.strip(), maxsplit=1)
        words = rest[0].split() if rest else []
        if not words:
            raise LabelError(
                f"{source}, line {number}: no name after {key!r}", "write the folder's name, a tab, and the words"
            )
        if key in names:
            raise LabelError(f"{source}, line {number}: {key!r} is given twice", "keep one of them")
        names[key] = Label(clean_word(" ".join(words)))
    return names


def _label_of(words: object, where: str) -> Label:
    """Make a label of a name, or of a list whose first entry is the name and whose others are aliases."""
    entries = words if isinstance(words, list) else [words]
    if not entries or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise LabelError(f"{where}: expected a name or a list of names", "put it in quotes")
    first, *others = (clean_word(str(entry)) for entry in entries)
    return Label(first, tuple(others))


def _label_from(key: str) -> Label:
    """Make a label of a folder's name or a table's spelling: underscores are spaces."""
    name = clean_word(key.replace("_", " "))
    if not name:
        raise LabelError(f"{key!r} gives an empty label", "rename it, or give it words with --label-names")
    return Label(name)


def load_folder(folder: str, names: Mapping[str, Label] | None = None, *, all_labels: bool = False) -> Dataset:
    """Read a folder whose subfolders are the labels.

    Args:
        folder: Holds one subfolder a label; underscores in their names become spaces.
        names: Words for the subfolders' names, such as those of synset ids.
        all_labels: Keep the names that have no subfolder, as labels without images.

    Raises:
        InputError: There are no subfolders, or no images in them.
        LabelError: A subfolder has no entry in ``names``.
    """
    try:
        with os.scandir(folder) as entries:
            found = {entry.name for entry in entries if is_folder(entry) and not is_skipped(entry.name)}
    except OSError as error:
        hint = "a table of images and labels is named with --targets" if Path(folder).is_file() else "check the path"
        hint = "unpack it: each label is a subfolder" if is_archive(folder) else hint
        raise InputError(f"cannot read the folder {folder}: {error.strerror}", hint) from error
    if not found:
        raise InputError(f"{folder} has no subfolders", "eval expects one subfolder a label, or --targets FILE.csv")
    skipped: Counter[str] = Counter()
    groups = {key: list(walk(str(Path(folder) / key), skipped)) for key in found}
    notes = [f"no images in the folder {key}" for key in sorted(found, key=natural_key) if not groups[key]]
    notes += [describe_passed_over(skipped)] if skipped else []
    if not any(groups.values()):
        raise InputError(f"no images in the subfolders of {folder}", "are they one level deeper?")
    return _from_groups(groups, names, notes, all_labels=all_labels)


def group_by_folder(
    paths: Iterable[str], names: Mapping[str, Label] | None = None, *, all_labels: bool = False
) -> Dataset:
    """Label images by their names: the folder that holds one, on a disk, in an archive or in a store, is its label.

    Args:
        paths: Names of images; one that is repeated counts once.
        names: Words for the folders' names.
        all_labels: As in `load_folder`.

    Raises:
        InputError: An image is in no folder.
        LabelError: A folder has no entry in ``names``.
    """
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        folders = re.split(r"::|[/\\]" if os.sep == "\\" else "::|/", path)[:-1]
        if not folders or not folders[-1]:
            raise InputError(f"{path} is in no folder that could name its label", "give labels with --targets FILE.csv")
        groups.setdefault(folders[-1], []).append(path)
    return _from_groups(groups, names, [], all_labels=all_labels)


def _from_groups(
    groups: Mapping[str, list[str]], names: Mapping[str, Label] | None, notes: list[str], *, all_labels: bool
) -> Dataset:
    """Make a data set of the images of each folder."""
    keys = sorted(groups, key=natural_key)
    matching: list[str] = []
    if names is not None:
        if missing := [key for key in keys if key not in names]:
            raise LabelError(
                f"no name for the {_count(missing, 'folder')} {some_of(missing)}{nearest(missing[0], names)}",
                "add them to the file given with --label-names, or move the folders away",
            )
        if unused := [key for key in names if key not in groups]:
            what = "kept as labels without images" if all_labels else "left out (--all-labels keeps them as labels)"
            matching.append(f"no folder for {_count(unused, 'name')}, {what}: {some_of(unused)}")
            keys = [key for key in names if all_labels or key in groups]
    labels = [names[key] if names is not None else _label_from(key) for key in keys]
    targets = [index for index, key in enumerate(keys) for _ in groups.get(key, ())]
    return Dataset(
        tuple(path for key in keys for path in groups.get(key, ())),
        np.asarray(targets, dtype=np.int64),
        LabelSet(tuple(labels)),
        tuple(keys),
        tuple(matching + notes + _repeats(labels)),
    )


def load_targets(source: str, names: Mapping[str, Label] | None = None) -> Dataset:
    """Read a CSV table with the columns ``path`` and ``label``; relative paths are resolved beside the table.

    A table with the column ``not`` is one of the corrections that ``explore`` appends to: the last line of a path
    counts, and one without a label says nothing.

    Raises:
        InputError: The table cannot be read, or lacks a column.
        LabelError: A label has no entry in ``names``.
    """
    header, rows = _read_table(source)
    path_column, label_column = header.index("path"), header.index("label")
    base = Path(source).parent
    paths: list[str] = []
    keys: list[str] = []
    for number, row in rows:
        if len(row) <= max(path_column, label_column) or not row[path_column] or not row[label_column].strip():
            raise InputError(f"{source}, line {number}: no path or no label", "fix or remove the line")
        paths.append(_locate(row[path_column], base))
        keys.append(row[label_column].strip())
    if not paths:
        raise InputError(f"{source} lists no images", "add lines of path,label")
    distinct = sorted(set(keys), key=natural_key)
    labels = _labels_of(distinct, names)
    index_of = {key: index for index, key in enumerate(distinct)}
    targets = np.asarray([index_of[key] for key in keys], dtype=np.int64)
    return Dataset(tuple(paths), targets, LabelSet(tuple(labels)), tuple(distinct), tuple(_repeats(labels)))


def _read_table(source: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a table, and its lines with their numbers; of corrections those that hold."""
    text = read_text(Path(source), InputError, MAX_TABLE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{source}, line {reader.line_num}: {error}", "fix the line") from error
    header = [column.strip().lower() for column in rows[0][1]] if rows else []
    if "path" not in header or "label" not in header:
        raise InputError(f"{source}: the first line names no columns path and label", "write `path,label` there")
    lines = _last_corrections(rows[1:], header, source) if "not" in header else rows[1:]
    return header, [(number, row) for number, row in lines if row]


def _locate(named: str, base: Path) -> str:
    """Return where an image lies that a table names: beside the table, unless its name is an address."""
    return named if scheme_of(named) else str(base / named)


def _labels_of(keys: list[str], names: Mapping[str, Label] | None) -> list[Label]:
    """Return the labels that a table's spellings stand for."""
    if names is not None and (missing := [key for key in keys if key not in names]):
        raise LabelError(
            f"no name for the {_count(missing, 'label')} {some_of(missing)}{nearest(missing[0], names)}",
            "add them to --label-names",
        )
    return [names[key] if names is not None else _label_from(key) for key in keys]


def load_several_targets(source: str, names: Mapping[str, Label] | None = None) -> Dataset:
    r"""Read a table of images that may have several labels: ``;`` between them, several lines of an image, or both.

    ``\;`` is a semicolon inside a label and ``\\`` a backslash; an image without a label has an empty field.

    Args:
        source: As for `load_targets`.
        names: Likewise.

    Raises:
        InputError: The table cannot be read, lacks a column, or names no label.
        LabelError: A label has no entry in ``names``.
    """
    header, rows = _read_table(source)
    path_column, label_column = header.index("path"), header.index("label")
    base = Path(source).parent
    labels_of: dict[str, list[str]] = {}
    for number, row in rows:
        if len(row) <= max(path_column, label_column) or not row[path_column]:
            raise InputError(
                f"{source}, line {number}: no path or no label", "write `path,` for an image without labels"
            )
        found = labels_of.setdefault(_locate(row[path_column], base), [])
        found += [key for key in split_labels(row[label_column]) if key not in found]
    keys = sorted({key for found in labels_of.values() for key in found}, key=natural_key)
    if not keys:
        raise InputError(f"{source} names no label", "write `path,cat;dog`")
    labels = _labels_of(keys, names)
    index_of = {key: index for index, key in enumerate(keys)}
    several = tuple(tuple(index_of[key] for key in found) for found in labels_of.values())
    places = np.arange(len(several), dtype=np.int64)
    return Dataset(tuple(labels_of), places, LabelSet(tuple(labels)), tuple(keys), tuple(_repeats(labels)), several)


def split_labels(field: str) -> list[str]:
    r"""Split a field at each ``;`` that no backslash precedes; empty parts are left out."""
    parts = re.findall(r"(?:[^;\\]|\\.|\\$)+", field)
    return [re.sub(r"\\([;\\])", r"\1", part).strip() for part in parts if part.strip()]


def as_several(dataset: Dataset) -> Dataset:
    """Return a data set of one label an image as one of several."""
    several = tuple((int(target),) for target in dataset.targets)
    return replace(dataset, several=several, targets=np.arange(len(several), dtype=np.int64))


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


def match_labels(dataset: Dataset, labels: LabelSet, source: str) -> Dataset:
    """Return a data set whose images have the labels of a list; those without images are labels all the same.

    A folder or spelling is matched with a label's name or one of its aliases, whatever their case.

    Args:
        dataset: Images with labels of their own.
        labels: The list.
        source: Where it comes from, for messages.

    Raises:
        LabelError: A folder matches no label of the list, two, or a background label.
    """
    index_of: dict[str, int] = {}
    for index, label in enumerate(labels.labels):
        for word in label.words:
            if index_of.setdefault(normalise(word), index) != index:
                raise LabelError(f"{source}: {word!r} stands for two labels", "remove one of them")
    keys = list(labels.names)
    place_of: dict[int, int] = {}
    for place, (key, label) in enumerate(zip(dataset.keys, dataset.labels.labels, strict=True)):
        found = next((index_of[word] for word in map(normalise, (key, *label.words)) if word in index_of), None)
        if found is None:
            words = [word for one in labels.labels for word in one.words]
            raise LabelError(
                f"{source} has no label for {key!r}{nearest(key, words)}",
                "add it there, or move its images away",
            )
        if labels.labels[found].background:
            raise LabelError(f"{source}: {key!r} is a background label", "it is never the answer for an image")
        place_of[place] = found
        keys[found] = key
    targets = np.asarray([place_of[int(target)] for target in dataset.targets], dtype=np.int64)
    absent = [name for index, name in enumerate(labels.names) if index not in set(targets.tolist())]
    notes = [f"no images for {_count(absent, 'label')}: {some_of(absent)}"] if absent else []
    return Dataset(dataset.paths, targets, labels, tuple(keys), (*dataset.notes, *notes))


def _repeats(labels: list[Label]) -> list[str]:
    """Say which names stand for two labels; they have different indices, but the model cannot tell them apart."""
    seen: set[str] = set()
    repeated = sorted({label.name for label in labels if label.name in seen or seen.add(label.name)})  # type: ignore[func-returns-value]
    return (
        [f"the same words for two labels, which the model cannot tell apart: {some_of(repeated)}"] if repeated else []
    )


def _count(items: list[str], noun: str) -> str:
    return f"{len(items)} {noun}s" if len(items) > 1 else noun
