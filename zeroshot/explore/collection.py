"""The images of a folder, an archive or a store, and their features, growing while the page is open."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from ..encoder import Encoder, Features
from ..errors import ZeroshotError
from ..features.pipeline import Block, Pipeline, encode_blocks
from ..images.camera_formats import describe_passed_over
from ..images.sources.image_names import ARCHIVE_SUFFIXES, join_member, scheme_of, split_member
from ..results import Failure
from .image_origins import UNKNOWN, Listing, Look, input_is_there, stamp_of

_FIRST_CAPACITY = 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far encoding is.

    Attributes:
        encoded: Images that have features, and whose files are there.
        failed: Images that could not be read.
        found: Images found so far.
        finished: Nothing is left to encode.
        note: What the user should know; empty for nothing.
    """

    encoded: int
    failed: int
    found: int
    finished: bool
    note: str


class Collection:
    """Images by id: the running number in which they were encoded. Safe to use from many threads.

    The id of an image whose file is gone is never another's. If the file comes back, or has changed, it has a new one:
    what an id stands for, its small image too, never changes.

    Args:
        folder: Where the images are: a folder, an archive, or a prefix of a store.
        dim: Length of a feature row.
        archives: Open the archives found inside a folder or below a prefix too.

    Attributes:
        folder: As given.
        version: Grows whenever an image is no longer there.
    """

    def __init__(self, folder: str, dim: int, *, archives: bool = False) -> None:
        self.folder = folder
        self._listing = Listing(folder, archives)
        self.version = 0
        self._named = [(os.path.realpath(place), place) for place in _with_parents(absolute(folder))]
        self._lock = threading.Lock()
        self._paths: list[str] = []
        self._ids: dict[str, int] = {}
        self._spelled: dict[str, str] = {}  # how an image was found, by the place that it has left
        self._features = np.empty((_FIRST_CAPACITY, dim), dtype=np.float32)
        self._here = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._n_here = 0
        self._stamps = np.full((_FIRST_CAPACITY, 2), UNKNOWN, dtype=np.int64)
        self._asked: dict[str, tuple[int, int]] = {}  # stamps of images that are being read, taken before
        self._failures: list[Failure] = []
        self._found = 0
        self._finished = False
        self._note = ""

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def features(self) -> Features:
        """Unit rows by id, shape ``(n_images, dim)``; a view that later images do not change."""
        with self._lock:
            return self._features[: len(self._paths)]

    @property
    def shown(self) -> tuple[Features, npt.NDArray[np.bool_]]:
        """`features`, and which of these images are there, shape ``(n_images,)``."""
        with self._lock:
            n = len(self._paths)
            return self._features[:n], self._here[:n].copy()

    @property
    def failures(self) -> list[Failure]:
        """The images that could not be read."""
        with self._lock:
            return list(self._failures)

    @property
    def progress(self) -> Progress:
        """How far encoding is."""
        with self._lock:
            return Progress(self._n_here, len(self._failures), self._found, self._finished, self._note)

    def waiting(self, n: int) -> int:
        """Return how many images that were found so far are neither among `n` that are shown nor failed."""
        with self._lock:
            return max(0, self._found - len(self._failures) - n)

    def path(self, image: int) -> str:
        """Return an image's path as it was found.

        Raises:
            IndexError: There is no such image.
        """
        if image < 0:
            raise IndexError(image)
        return self._paths[image]

    def find(self, path: str) -> int | None:
        """Return the id of an image that is there by its absolute path, or None."""
        image = self._ids.get(path)
        return image if image is not None and self._here[image] else None

    def is_here(self, image: int) -> bool:
        """Say whether an image's file was there when it was looked for last."""
        return bool(self._here[image])

    def name_of(self, place: Path) -> str:
        """Return what an image is known by whose folders are resolved: links to the folder, or above it, as named."""
        for real, named in self._named:
            if place.is_relative_to(real):
                return os.path.join(named, place.relative_to(real))  # noqa: PTH118
        return str(place)

    def add(self, block: Block) -> None:
        """Add images that were encoded."""
        folders: dict[str, str] = {}
        read = [path for place, path in enumerate(block.paths) if place not in block.errors]
        names = [_absolute(path, folders) for path in read]
        failed = [_absolute(block.paths[place], folders) for place in block.errors]
        with self._lock:
            stamps = {path: self._asked.pop(path, UNKNOWN) for path in block.paths}
            self._failures += [Failure(block.paths[place], error) for place, error in sorted(block.errors.items())]
            n = len(self._paths)
            end = n + len(read)
            if end > len(self._features):
                grown = np.empty((max(2 * n, end), self._features.shape[1]), dtype=np.float32)
                grown[:n] = self._features[:n]
                self._features = grown  # views of the old one stay as they are
                self._here = np.concatenate([self._here[:n], np.zeros(len(grown) - n, np.bool_)])
                self._stamps = np.concatenate([self._stamps[:n], np.full((len(grown) - n, 2), UNKNOWN, np.int64)])
            self._features[n:end], self._here[n:end] = block.features, True
            for image, path in enumerate(read, n):
                self._stamps[image] = stamps[path]
            self._n_here += len(read)
            for name in (*names, *failed):  # as it was before it changed
                self._drop(self._ids.get(name))
            self._ids.update(zip(names, range(n, end), strict=True))
            self._paths += read

    def move(self, places: Mapping[str, str]) -> None:
        """Note that images were moved, from one absolute path to another."""
        with self._lock:
            for source, target in places.items():
                image = self._ids.pop(source, None)
                if image is not None:
                    self._drop(self._ids.get(target))  # it was found there while the sort was in work
                    self._ids[target] = image
                    if not self._here[image]:
                        self._here[image] = True
                        self._n_here += 1
                        self._found += 1
                    self._spelled[source] = self._paths[image]
                    self._paths[image] = self._spelled.pop(target, target)

    def _drop(self, image: int | None) -> None:
        """Note that an image is not there any longer; the lock is held."""
        if image is not None and self._here[image]:
            self._here[image] = False
            self._n_here -= 1
            self._found -= 1
            self.version += 1

    def _look_again(self, stopped: threading.Event) -> list[str]:
        """Drop the images whose files are gone; return those whose files have changed since they were read.

        Where the folder itself is gone, it may be a disk that is not connected: nothing is dropped.
        """
        if not input_is_there(self.folder):
            return []
        look = Look()
        with self._lock:
            paths, here = list(self._paths), np.flatnonzero(self._here[: len(self._paths)]).tolist()
            before = dict(zip(here, map(tuple, self._stamps[here].tolist()), strict=True))
        found = {image: look.stamp(paths[image], known) for image, known in before.items() if not stopped.is_set()}
        changed = []
        with self._lock:
            for image, stamp in found.items():
                known = tuple(self._stamps[image].tolist())
                if stamp in (known, UNKNOWN) or self._paths[image] is not paths[image]:  # moved meanwhile
                    continue
                if stamp is None:
                    self._drop(image)
                elif known == UNKNOWN:
                    self._stamps[image] = stamp
                else:
                    changed.append(paths[image])
        return changed

    def _keep_failures(self, before: list[Failure]) -> None:
        """Keep what failed before and was not tried again."""
        with self._lock:
            tried = {failure.path for failure in self._failures}
            kept = [one for one in before if one.path not in tried and self.find(absolute(one.path)) is None]
            self._failures = kept + self._failures
            self._found += len(kept)

    def changed(self, paths: Iterable[str]) -> set[str]:
        """Return those images whose files are there, but no longer as they were when they were encoded."""
        look, found = Look(), set()
        for path in paths:
            image = self.find(absolute(path))
            known = UNKNOWN if image is None else tuple(self._stamps[image].tolist())
            if known != UNKNOWN and look.stamp(path, known) not in (known, UNKNOWN, None):
                found.add(path)
        return found

    def encode(self, encoder: Encoder, pipeline: Pipeline, stopped: threading.Event) -> None:
        """Find and encode the folder's images, until all are done or it is told to stop.

        Those that have features are left out, unless their files have changed, and those that could not be read are
        tried again. Images whose files are gone are there no longer.
        """
        skipped: Counter[str] = Counter()
        folders: dict[str, str] = {}
        with self._lock:
            before = self._failures
            failed = [failure.path for failure in before]
            self._found, self._failures, self._finished, self._note = self._n_here, [], False, ""

        def paths() -> Iterator[str]:
            changed = self._look_again(stopped)
            again = {_absolute(path, folders) for path in changed}
            new = (
                path
                for path in self._listing.images(failed, skipped)
                if (name := _absolute(path, folders)) not in again and self.find(name) is None
            )
            for path in chain(changed, new):
                if stopped.is_set():
                    return
                with self._lock:
                    self._found += 1
                    self._asked[path] = stamp_of(path) or UNKNOWN
                yield path

        note = ""
        try:
            for block in encode_blocks(encoder, paths(), pipeline):
                self.add(block)
                if stopped.is_set():
                    break
            else:
                self._listing.keep()
            note = describe_passed_over(skipped, ARCHIVE_SUFFIXES) if skipped else ""
        except ZeroshotError as error:
            note = f"encoding has stopped: {error.message}"
            self._keep_failures(before)
        except MemoryError:
            note = "encoding has stopped: there is not enough memory"
        finally:
            with self._lock:
                self._finished, self._note = True, note


def absolute(path: str) -> str:
    """Return what an image is known by: its absolute path, links as they are named; an address as it is."""
    if "://" in path and scheme_of(path):
        return path
    if "::" in path and (parts := split_member(path)):
        return join_member(absolute(parts[0]), parts[1])
    return os.path.abspath(path)  # noqa: PTH100 - links stay as they are named


def shown_name(path: str) -> str:
    """Return the last part of an image's name; a member's own, without its archive."""
    parts = split_member(path)
    return PurePath(parts[1] if parts else path).name


def _with_parents(path: str) -> list[str]:
    return [] if scheme_of(path) else [path, *map(str, Path(path).parents)]


def _absolute(path: str, folders: dict[str, str]) -> str:
    """Return `absolute` of a path that was found below a folder, each folder's looked up once."""
    if "::" in path or "://" in path:
        return absolute(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = absolute(folder)
    return os.path.join(folders[folder], name)  # noqa: PTH118
