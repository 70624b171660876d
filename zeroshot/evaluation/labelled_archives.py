"""Labelled images in archives and object stores: the first folder below the root is the label, as on a disk.

Where images bring their labels in another way, it is that: a number or name in ``KEY.cls`` beside ``KEY.jpg``
(webdataset), the column ``label`` of a Parquet file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from ..errors import ImageError, InputError
from ..images.camera_formats import describe_passed_over
from ..images.paths import find_images
from ..images.sources.address_secrets import check_address
from ..images.sources.archive_cache import open_archive
from ..images.sources.image_names import STORE_SCHEMES, is_archive, scheme_of, split_member
from ..messages import count_of, some_of
from ..prompts.labels import Label
from .labelled_folders import Dataset, group_labelled

_LABEL = "label"
"""The column of a Parquet file that holds the labels."""


def is_source(place: str) -> bool:
    """Say whether a place is an archive, or lies in a store or on a web server."""
    return bool(scheme_of(place)) or is_archive(place)


def load_source(source: str, names: Mapping[str, Label] | None = None, *, all_labels: bool = False) -> Dataset:
    """Find the labelled images of an archive or below a prefix of a store.

    Args:
        source: ``x.tar``, ``x.zip``, ``x.parquet``, ``s3://bucket/val``.
        names: Words for the names of folders, or for the labels' numbers.
        all_labels: As in `load_folder`.

    Raises:
        InputError: It cannot be read, or its images have no labels.
        LabelError: A folder has no entry in ``names``.
    """
    check_address(source)
    if not is_archive(source) and scheme_of(source) not in STORE_SCHEMES:
        raise InputError(f"{source} cannot be listed: it is one file of a web server", "name an archive, or --targets")
    skipped: Counter[str] = Counter()
    found = list(dict.fromkeys(find_images([source], skipped)))
    notes = [describe_passed_over(skipped)] if skipped else []
    if is_archive(source):
        try:
            damage = open_archive(source).damage
        except ImageError as error:
            raise InputError(f"{source} cannot be read: {error.message}", "check the path") from error
        notes += [f"{source} is {damage}"] if damage else []
        found = [path for path in found if path != source]
    elif found == [source]:
        found = []
    if not found:
        raise InputError(f"no images in {source}" + (f": {notes[-1]}" if notes else ""), "check the path")
    if source.lower().endswith(".parquet"):
        labelled = dict(zip(found, _column(source, names is not None), strict=True))
    elif labels := _beside(source, found, names is not None):
        labelled = labels
    else:
        labelled, loose = _by_folder(source, found, notes)
        if not labelled:
            raise InputError(
                f"no folders in {source} that could name labels",
                "one folder per label is expected, or KEY.cls beside KEY.jpg, or --targets FILE.csv",
            )
        if loose:
            notes.append(f"{count_of(len(loose), 'image')} in no label's folder: {some_of(loose)}")
    dataset = group_labelled(labelled, names, all_labels=all_labels)
    return replace(dataset, notes=(*dataset.notes, *notes))


def _by_folder(source: str, found: list[str], notes: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return each image's label by its folder, and the images in none."""
    parts = {path: list(_parts(source, path)) for path in found}
    tops = {here[0] for here in parts.values()}
    if is_archive(source) and len(tops) == 1 and any(len(here) > 2 for here in parts.values()):
        notes.append(f"labels are the folders below {tops.pop()}/ of {source}")
        parts = {path: here[1:] for path, here in parts.items()}
    labelled = {path: here[0] for path, here in parts.items() if len(here) > 1}
    return labelled, [path for path in found if path not in labelled]


def _parts(source: str, path: str) -> Iterator[str]:
    """Yield the folders below the root, and the image's own name."""
    if is_archive(source):
        below = path.removeprefix(source + "::").replace("\\", "/")
    else:
        below = path.removeprefix(source.rstrip("/"))
    yield from (part for part in below.split("/") if part not in ("", ".", ".."))


def _beside(source: str, found: list[str], named: bool) -> dict[str, str]:
    """Return the labels that stand beside the images of a webdataset archive; nothing where none do."""
    if not is_archive(source):
        return {}
    archive = open_archive(source)
    keys = {_key(member): member for member in archive.names() if member.lower().endswith(".cls")}
    if not keys:
        return {}
    labelled: dict[str, str] = {}
    for path in found:
        member = (split_member(path) or ("", path))[1]
        if _key(member) not in keys:
            raise InputError(f"{path} has no label", "an image needs its .cls beside it")
        beside = keys[_key(member)]
        try:
            label = archive.read(beside).decode("utf-8").strip()
        except (ImageError, UnicodeDecodeError) as error:
            raise InputError(f"{source}::{beside} cannot be read: {error}", "is it a label's number?") from error
        labelled[path] = _named(label, f"{source}::{beside}", named)
    return labelled


def _key(member: str) -> str:
    """Return what an image and its label have in common: as webdataset has it, all before the name's first dot."""
    path = PurePosixPath(member)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _column(source: str, named: bool) -> list[str]:
    """Return the label of each row of a Parquet file."""
    from ..images.sources.parquet import ParquetArchive

    archive = open_archive(source)
    assert isinstance(archive, ParquetArchive)
    try:
        return [
            _named(label, f"{source}: {_LABEL} of row {row}", named) for row, label in enumerate(archive.labels(_LABEL))
        ]
    except ImageError as error:
        raise InputError(f"{source}: {error.message}", "give labels with --targets FILE.csv") from error


def _named(label: str, where: str, named: bool) -> str:
    """Check a label: a number says nothing to a model without a name for it."""
    if not label:
        raise InputError(f"{where} is empty", "give labels with --targets FILE.csv")
    if label.isdecimal() and not named:
        raise InputError(f"{where} is the number {label}", "give the numbers words with --label-names FILE")
    return label
