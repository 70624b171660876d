"""Many images looked up in the cache at once: one question to the file system for each, one to the cache for all."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..images.sources.names import SEPARATOR, is_archive
from .cache import FeatureCache
from .keys import State, signed

_PLACES = ("", os.curdir, os.pardir)


@dataclass(frozen=True, slots=True)
class Known:
    """What the cache has of some images.

    Attributes:
        found: Whether it has an image's features, shape ``(n_images,)``.
        features: Their rows, shape ``(n_found, dim)``, in order.
    """

    found: npt.NDArray[np.bool_]
    features: Features


def look_up(cache: FeatureCache, key: bytes, paths: Sequence[str], dim: int) -> Known:
    """Look up images that may have been read before, without opening them.

    Only files are found, and only those that are, by path, inode, size and times, the ones that were read: what is not
    found may be known all the same, as a copy of another file or the member of an archive.

    Args:
        cache: Where features are kept.
        key: Of the model and the way of opening images.
        paths: Names of images.
        dim: Length of a row.
    """
    places: list[int] = []
    states: list[State] = []
    parents: dict[str, bytes] = {}
    for place, path in enumerate(paths):
        state = _state_of(path, parents)
        if state is not None:
            places.append(place)
            states.append(state)
    found = np.zeros(len(paths), dtype=np.bool_)
    known, features = cache.find_many(key, states, dim) if states else ([], np.zeros((0, dim), dtype=np.float32))
    found[[places[index] for index in known]] = True
    return Known(found, features)


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
