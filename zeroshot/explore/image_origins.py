"""Tells where images come from, and which are gone or have changed: a member by its archive, an object never."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ImageError
from ..features.keys import signed
from ..images.paths import expand, find_entries, names_folder
from ..images.sources.archive_cache import open_archive
from ..images.sources.image_names import container, is_archive, scheme_of, split_member

UNKNOWN = (-1, -1)
"""The stamp of what cannot be looked at, or only by asking a store for each object."""


def stamp_of(path: str) -> tuple[int, int] | None:
    """Return what tells whether an image has changed, size and time of its file or archive; None where that is gone."""
    if scheme_of(path):
        return UNKNOWN
    try:
        status = os.stat(container(path))  # noqa: PTH116 - a Path for each takes longer than the rest
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it may be there
        return UNKNOWN
    return signed(status.st_size), signed(status.st_mtime_ns)


class Listing:
    """Lists what an input holds, again and again; an archive of a store or a web server once: that may read all of it.

    Args:
        given: A folder, an archive, or a prefix of a store.
        archives: Open the archives found inside a folder or below a prefix too.
    """

    def __init__(self, given: str, archives: bool) -> None:
        self._given = given
        self._archives = archives
        self._listed: dict[str, Counter[str]] = {}  # by archive, what was passed over in it
        self._new: dict[str, Counter[str]] = {}

    def images(self, failed: Iterable[str], skipped: Counter[str]) -> Iterator[str]:
        """Yield the images; of an archive that is not listed again those that failed.

        Args:
            failed: Images that could not be read before.
            skipped: Counts as in `paths.walk`.
        """
        again: dict[str, list[str]] = {}
        for path in failed:
            again.setdefault(container(path), []).append(path)
        self._new = {}
        for entry in find_entries([self._given], skipped, archives=self._archives):
            if not (is_archive(entry) and scheme_of(entry)):
                yield from expand(entry, skipped)
            elif entry in self._listed:
                skipped.update(self._listed[entry])
                yield from again.get(entry, ())
            else:
                counted, whole = Counter[str](), True
                for path in expand(entry, counted):
                    whole = whole and path != entry
                    yield path
                skipped.update(counted)
                if whole:
                    self._new[entry] = counted

    def keep(self) -> None:
        """Note that what was listed last has been read."""
        self._listed |= self._new


class Look:
    """One look at many images, in which each archive that has changed is listed once."""

    def __init__(self) -> None:
        self._members: dict[str, frozenset[str] | None] = {}

    def stamp(self, path: str, known: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return an image's stamp; None where it is gone, be it only from its archive.

        Args:
            path: The image.
            known: Its stamp before, which stays that of a member while its archive is not whole.
        """
        stamp = stamp_of(path)
        if stamp in (None, UNKNOWN, known) or not (parts := split_member(path)):
            return stamp
        archive, member = parts
        if archive not in self._members:
            self._members[archive] = _list_members(archive)
        members = self._members[archive]
        return known if members is None else stamp if member in members else None


def _list_members(archive: str) -> frozenset[str] | None:
    """Return the members of an archive; None where it is not whole, for it may be written at this moment."""
    try:
        opened = open_archive(archive)
    except ImageError:
        return None
    return None if opened.damage else frozenset(opened.names())


def input_is_there(given: str) -> bool:
    """Say whether a folder or an archive can still be looked into; a store is not asked."""
    try:
        place = Path(given)
        return bool(scheme_of(given)) or place.is_dir() or (is_archive(given) and place.is_file())
    except OSError:
        return False


def describe_place(given: str) -> tuple[str, str, bool]:
    """Return what a folder, archive or prefix is called, where to sort it into, and whether it is no folder."""
    remote = bool(scheme_of(given))
    place = Path.cwd() / given.rstrip("/").rpartition("/")[2] if remote else Path(given).resolve()
    archive = is_archive(given) and not names_folder(given)
    stem = place.stem if archive else place.name
    return place.name or str(place), str(place.with_name(f"{stem}-sorted")) if stem else "", remote or archive
