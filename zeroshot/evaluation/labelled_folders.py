"""Labelled images, whose labels come from the names of folders.

Folders are matched to names by name, never by position, and every mapping is returned to be printed: one missing
folder must not shift all the labels behind it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError, LabelError, nearest
from ..images.camera_formats import describe_passed_over, passed_over, readable_suffixes
from ..images.decode import SUFFIXES
from ..images.natural_order import natural_key
from ..images.paths import archive_suffix, identify, is_folder, is_skipped, walk
from ..messages import count_of, some_of
from ..prompts.labels import Label, LabelSet, normalise
from .label_names import gather, join_keys


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images with their true labels.

    Attributes:
        paths: In order of label, then naturally.
        targets: Label index of each image, shape ``(n_images,)``.
        labels: The labels.
        keys: The folder's name or table's spelling that each label comes from; of several, joined by `` + ``.
        notes: What did not match, one line each.
        links: Symbolic links that were left out, since what they lead to is there without them.
        several: The label indices of each image, where it may have several; ``targets`` are then places in it.
    """

    paths: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    labels: LabelSet
    keys: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    several: tuple[tuple[int, ...], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images each label has."""
        given = [index for labels in self.several for index in labels] if self.several else self.targets.tolist()
        counted = Counter(given)
        return tuple(counted[index] for index in range(len(self.keys)))


def load_folder(folder: str, names: Mapping[str, Label] | None = None, *, all_labels: bool = False) -> Dataset:
    """Read a folder whose subfolders are the labels.

    Args:
        folder: Holds one subfolder per label; underscores in their names become spaces.
        names: Words for the subfolders' names, such as those of synset ids.
        all_labels: Keep the names that have no subfolder, and subfolders without images, as labels.

    Raises:
        InputError: There are no subfolders, or no images in them.
        LabelError: A subfolder has no entry in ``names``.
    """
    suffixes = SUFFIXES | readable_suffixes()
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not is_skipped(entry.name)]
            found = {entry.name for entry in entries if is_folder(entry)}
            dangling = sorted(entry.name for entry in entries if entry.is_symlink() and not Path(entry.path).exists())
            loose = [entry.path for entry in entries if Path(entry.name).suffix.lower() in suffixes and entry.is_file()]
    except OSError as error:
        hint = "a table of images and labels is named with --targets" if Path(folder).is_file() else "check the path"
        raise InputError(f"cannot read the folder {folder}: {error.strerror}", hint) from error
    if not found:
        raise InputError(f"{folder} has no subfolders", "one subfolder per label is expected, or --targets FILE.csv")
    kinds = ((passed_over(entry.name) or archive_suffix(entry.name), entry.path) for entry in entries)
    skipped = Counter(kind for kind, path in kinds if kind and Path(path).is_file())
    identities = {key: identify(str(Path(folder) / key)) for key in found}
    real = Path(os.path.realpath(folder))
    above = {identify(str(parent)) for parent in (real, *real.parents)}
    groups = {}
    for key in sorted(found, key=natural_key):
        # Another label's folder holds no image of this one, nor does what holds all of them.
        closed = frozenset(each for each in (set(identities.values()) - {identities[key]}) | above if each)
        groups[key] = list(walk(str(Path(folder) / key), skipped, closed=closed))
    links, copies = drop_links(groups, str(Path(folder)))
    notes = _describe_left_out(folder, loose, groups, links, copies, dangling, all_labels=all_labels)
    notes += [describe_passed_over(skipped)] if skipped else []
    if not any(groups.values()):
        raise InputError(f"no images in the subfolders of {folder}", "are they one level deeper?")
    if not all_labels:
        groups = {key: paths for key, paths in groups.items() if paths}
    return replace(_from_groups(groups, names, notes, all_labels=all_labels), links=tuple(links))


def _describe_left_out(
    folder: str,
    loose: list[str],
    groups: Mapping[str, list[str]],
    links: list[str],
    copies: int,
    dangling: list[str],
    *,
    all_labels: bool,
) -> list[str]:
    """Return a line on each kind of thing in a folder that is no image of a label, or that is one twice."""
    notes = []
    if empty := [key for key in groups if not groups[key]]:
        kept = "labels all the same" if all_labels else "left out (--all-labels keeps them as labels)"
        notes.append(f"no images in {count_of(len(empty), 'folder')}, {kept}: {some_of(empty)}")
    if loose:
        notes.append(f"{count_of(len(loose), 'image')} in {folder} itself, in no label's folder: {some_of(loose)}")
    if links:
        notes.append(f"{count_of(len(links), 'link')} to images that count once: {some_of(links)}")
    if dangling:
        notes.append(f"{count_of(len(dangling), 'link')} in {folder} to nothing: {some_of(dangling)}")
    if copies:
        notes.append(f"{count_of(copies, 'image')} the same file as another by a hard link, and counted all the same")
    return notes


def drop_links(groups: dict[str, list[str]], root: str) -> tuple[list[str], int]:
    """Leave out each symbolic link to an image that is there without it, or by a link before it.

    Args:
        groups: Paths below ``root``, by label.
        root: The folder; it may itself be reached by a link.

    Returns:
        What was left out, and how many images are left that are further names of a file (hard links).
    """
    names_of: dict[tuple[int, int], list[str]] = {}
    for key in sorted(groups, key=natural_key):
        for path in groups[key]:
            if identity := identify(path):
                names_of.setdefault(identity, []).append(path)
    real_root = os.path.realpath(root)
    gone: set[str] = set()
    copies = 0
    for names in names_of.values():
        if len(names) > 1:
            links = [name for name in names if os.path.realpath(name) != f"{real_root}{name[len(root) :]}"]
            dropped_here = links if len(links) < len(names) else links[1:]
            gone.update(dropped_here)
            copies += len(names) - len(dropped_here) - 1
    dropped = [path for paths in groups.values() for path in paths if path in gone]
    for key, paths in groups.items():
        groups[key] = [path for path in paths if path not in gone]
    return dropped, copies


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
    labelled: dict[str, str] = {}
    for path in paths:
        folders = re.split(r"::|[/\\]" if os.sep == "\\" else "::|/", path)[:-1]
        if not folders or not folders[-1]:
            raise InputError(f"{path} is in no folder that could name its label", "give labels with --targets FILE.csv")
        labelled[path] = folders[-1]
    return group_labelled(labelled, names, all_labels=all_labels)


def group_labelled(
    labelled: Mapping[str, str], names: Mapping[str, Label] | None = None, *, all_labels: bool = False
) -> Dataset:
    """Make a data set of images whose labels are known by the name of a folder, or as they are spelled.

    Args:
        labelled: The label of each image.
        names: Words for them.
        all_labels: As in `load_folder`.

    Raises:
        LabelError: One has no entry in ``names``.
    """
    groups: dict[str, list[str]] = {}
    for path, key in labelled.items():
        groups.setdefault(key, []).append(path)
    return _from_groups(groups, names, [], all_labels=all_labels)


def _from_groups(
    groups: Mapping[str, list[str]], names: Mapping[str, Label] | None, notes: list[str], *, all_labels: bool
) -> Dataset:
    """Make a data set of the images of each folder."""
    keys = sorted(groups, key=natural_key)
    labels, place_of = gather(keys, names, "folder")
    matching: list[str] = []
    if names is not None:
        if unused := [key for key in names if key not in groups]:
            what = "kept as labels without images" if all_labels else "left out (--all-labels keeps them as labels)"
            matching.append(f"no folder for {count_of(len(unused), 'name')}, {what}: {some_of(unused)}")
        labels, place_of = gather([key for key in names if all_labels or key in groups], names, "folder")
    found = [(place, path) for key, place in place_of.items() for path in groups.get(key, ())]
    found.sort(key=itemgetter(0))  # stable: naturally within a label
    joined, united = join_keys(labels, place_of)
    return Dataset(
        tuple(path for _, path in found),
        np.asarray([place for place, _ in found], dtype=np.int64),
        LabelSet(tuple(labels)),
        joined,
        tuple(matching + notes + united),
    )


def as_several(dataset: Dataset) -> Dataset:
    """Return a data set of one label per image as one of several."""
    several = tuple((int(target),) for target in dataset.targets)
    return replace(dataset, several=several, targets=np.arange(len(several), dtype=np.int64))


class _Finder:
    """Finds the label of a list that a folder or spelling stands for.

    Args:
        labels: The list.
        source: Where it comes from, for messages.
        keys: The folder or spelling of each, where those are known.
        wanted: The labels that will be looked for.
    """

    def __init__(self, labels: LabelSet, source: str, keys: tuple[str, ...], wanted: Iterable[Label]) -> None:
        self._source = source
        self._keys = keys
        self._wanted = Counter(wanted)
        self._same: dict[Label, list[int]] = {}
        self._given: Counter[Label] = Counter()
        self._names: dict[str, list[int]] = {}
        self._words: dict[str, list[int]] = {}
        for index, label in enumerate(labels.labels):
            self._same.setdefault(label, []).append(index)
            self._names.setdefault(normalise(label.name), []).append(index)
            for word in dict.fromkeys(map(normalise, label.words)):
                self._words.setdefault(word, []).append(index)

    def __call__(self, key: str, label: Label) -> int | None:
        """Return the index of a label, None where there is none.

        Of equal ones it is that of the same key; where keys are not known, the first for the first, and so on.

        Raises:
            LabelError: The words stand for two labels, and nothing says for which.
        """
        if same := self._same.get(label):
            if len(same) == 1:
                return same[0]
            if named := [index for index in same if self._keys and self._keys[index] == key]:
                return named[0]
            if self._keys or self._wanted[label] != len(same):
                raise LabelError(f"{self._source}: {label.name!r} stands for two labels", f"which of them is {key}?")
            found = same[self._given[label]]
            self._given[label] += 1
            return found
        for known in (self._names, self._words):
            for word in map(normalise, (key, *label.words)):
                indices = known.get(word, ())
                if len(indices) > 1:
                    raise LabelError(f"{self._source}: {word!r} stands for two labels", "give one of them other words")
                if indices:
                    return indices[0]
        return None


def match_labels(dataset: Dataset, labels: LabelSet, source: str, known: tuple[str, ...] = ()) -> Dataset:
    """Return a data set whose images have the labels of a list; those without images are labels all the same.

    A folder or spelling is matched with a label's name or one of its aliases, whatever their case.

    Args:
        dataset: Images with labels of their own.
        labels: The list.
        source: Where it comes from, for messages.
        known: The folder or spelling of each label of the list, where those are known.

    Raises:
        LabelError: A folder matches no label of the list, two, or a background label.
    """
    keys = list(known or labels.names)
    place_of: dict[int, int] = {}
    find = _Finder(labels, source, known, dataset.labels.labels)
    for place, (key, label) in enumerate(zip(dataset.keys, dataset.labels.labels, strict=True)):
        found = find(key, label)
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
    present = set(targets.tolist())
    absent = [one.name for index, one in enumerate(labels.labels) if index not in present and not one.background]
    notes = [f"no images for {count_of(len(absent), 'label')}: {some_of(absent)}"] if absent else []
    return replace(dataset, targets=targets, labels=labels, keys=tuple(keys), notes=(*dataset.notes, *notes))
