"""Looks up many images in the cache at once: one question to the file system for each, one to the cache for all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..images.sources.image_names import SEPARATOR, is_archive
from .keys import State, signed

if TYPE_CHECKING:
    from .cache import FeatureCache
    from .folder_listings import Listing

Places = npt.NDArray[np.intp]
_PLACES = ("", os.curdir, os.pardir)
_WORTH_A_LISTING = 16
"""Files of one folder in a row from which on its listing is loaded."""
_STATE = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


@dataclass(frozen=True, slots=True)
class Known:
    """What the cache has of some images.

    Attributes:
        found: Whether it has an image's features, shape ``(n_images,)``.
        features: Their rows, shape ``(n_found, dim)``, in order.
    """

    found: npt.NDArray[np.bool_]
    features: Features


class LookUp:
    """Looks up images that may have been read before, without opening them.

    Only files are found, and only those that are, by path, inode, size and times, the ones that were read: what is not
    found may be known all the same, as a copy of another file or the member of an archive.

    Args:
        cache: Where features are kept.
        key: Of the model and the way of opening images.
        dim: Length of a row.
    """

    def __init__(self, cache: FeatureCache, key: bytes, dim: int) -> None:
        self._cache = cache
        self._key = key
        self._dim = dim
        self._folder: bytes | None = None
        self._listed: set[bytes] = set()
        self._listing: Listing | None = None  # of the last folder alone: a million files take 200 MB

    def __call__(self, paths: Sequence[str]) -> Known:
        """Look up some images by their names."""
        self._listed = set()  # of these, the folders whose listings were asked
        found = np.zeros(len(paths), dtype=np.bool_)
        features = np.empty((len(paths), self._dim), dtype=np.float32)
        start = 0
        for parent, names in _by_folder(paths):
            if parent is not None:
                places, rows = self._find_in_folder(parent, names, paths[start : start + len(names)])
                found[start + places], features[start + places] = True, rows
            start += len(names)
        if not found.all():
            rest = np.flatnonzero(~found)
            places, rows = self._find_one_by_one([paths[place] for place in rest.tolist()])
            found[rest[places]], features[rest[places]] = True, rows
        return Known(found, features if found.all() else features[found])

    def _find_in_folder(self, parent: str, names: list[str], paths: Sequence[str]) -> tuple[Places, Features]:
        """Return the places of the files that the folder's listing leads to, and their rows."""
        none = np.zeros(0, dtype=np.intp), np.zeros((0, self._dim), dtype=np.float32)
        listing = self._listing_of(parent, len(paths))
        if listing is None:
            return none
        absent = len(listing.states)
        at = np.fromiter(map(listing.places.get, names, repeat(absent)), np.intp, count=len(names))
        asked = np.flatnonzero(at < absent)
        states = _states_now([paths[place] for place in asked.tolist()])
        if states is None:
            return none
        asked = asked[(states == listing.states[at[asked]]).all(axis=1)]
        rows = self._cache.find_listed(self._key, listing, at[asked], self._dim)
        return asked[rows.found], rows.features

    def _listing_of(self, parent: str, count: int) -> Listing | None:
        """Return the listing of a folder of which so many files are asked for; None where it has none, or few are."""
        try:
            folder = os.path.abspath(os.fsencode(f"{parent}x"))[:-1]  # noqa: PTH100
        except ValueError:
            return None
        if folder != self._folder:
            if count < _WORTH_A_LISTING:
                return None
            self._folder, self._listing = folder, self._cache.listing(self._key, folder)
        self._listed.add(folder)
        return self._listing

    def _find_one_by_one(self, paths: list[str]) -> tuple[Places, Features]:
        """Look up each file by its whole path; the places of those that are known, and their rows."""
        states: list[State] = []
        places: list[int] = []
        parents: dict[str, bytes] = {}
        for place, path in enumerate(paths):
            state = _state_of(path, parents)
            if state is not None:
                places.append(place)
                states.append(state)
        known, features = self._cache.find_many(self._key, states, self._dim, self._listed)
        return np.array([places[index] for index in known], dtype=np.intp), features


def _by_folder(paths: Sequence[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Yield stretches of paths: what stands before the names of the files, None for what no listing has, and these."""
    if os.name == "nt" or not all(map(isinstance, paths, repeat(str))):
        yield None, list(paths)
        return
    # All texts between the first and the last in alphabetical order begin as those two do.
    first, last = min(paths), max(paths)
    parent = first[: first.rfind("/") + 1]
    names = [path[len(parent) :] for path in paths]
    together = parent + "".join(names)
    if last.startswith(parent) and ":" not in together and "/" not in together[len(parent) :]:
        yield parent, names
        return
    for parent_or_none, stretch in groupby(paths, _parent_of):
        some = list(stretch)
        yield parent_or_none, [path[len(parent_or_none or "") :] for path in some]


def _parent_of(path: str) -> str | None:
    """Return what stands before a file's name; None for what no listing has."""
    return None if ":" in path else path[: path.rfind("/") + 1]


def _states_now(paths: list[str]) -> npt.NDArray[np.int64] | None:
    """Return size, modified, changed and inode of files, shape ``(n, 4)``; None where one has none of these."""
    try:
        states = [os.stat(path) for path in paths]  # noqa: PTH116
        numbers = np.fromiter(chain.from_iterable(map(_STATE, states)), np.int64, count=4 * len(paths))
    except (OSError, ValueError, OverflowError):
        return None
    return numbers.reshape(-1, 4)


def _state_of(path: str, parents: dict[str, bytes]) -> State | None:
    """Return a file's state as `FileState.of` has it; None for what is no file, or may be something else."""
    if not isinstance(path, str) or is_archive(path) or (":" in path and (SEPARATOR in path or "://" in path)):
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each would take longer than the rest
        parent, separator, name = path.rpartition("/")
        if os.name == "nt" or name in _PLACES:
            absolute = os.path.abspath(os.fsencode(path))  # noqa: PTH100
        else:
            beginning = parents.get(parent + separator)
            if beginning is None:
                beginning = os.path.abspath(os.fsencode(f"{parent}{separator}x"))[:-1]  # noqa: PTH100
                parents[parent + separator] = beginning
            absolute = beginning + os.fsencode(name)
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return None
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    # Times that SQLite cannot hold are kept in another form, and not found.
    return absolute, status.st_size, status.st_mtime_ns, status.st_ctime_ns, signed(status.st_ino)
