"""What a shard's list holds: names of images, and parts of archives that are opened when it is processed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count, islice

from ..errors import ImageError, InputError
from ..images.paths import expand
from ..images.sources.archive_cache import open_archive
from ..images.sources.image_names import is_archive, scheme_of, split_member
from ..images.sources.parquet import ParquetArchive


@dataclass(frozen=True, slots=True)
class Piece:
    """Images of an archive that stand one behind the other.

    Attributes:
        archive: Its name.
        start: The first of them, counted from 0.
        stop: Behind the last; None for the archive's end.
        sha256: Of their names as they were planned, hexadecimal; None where the archive was not opened for that.
    """

    archive: str
    start: int = 0
    stop: int | None = None
    sha256: str | None = None

    def images(self) -> list[str]:
        """Return the names of the images.

        Raises:
            InputError: They are others, or stand in another order, than when they were planned.
        """
        names = [*islice(expand(self.archive), self.start, self.stop)]
        if self.sha256 not in (None, _hash(names)):
            raise InputError(
                f"{self.archive} has changed since the run was planned: it holds other images, or holds them in another"
                " order",
                "restore it, or plan another run",
            )
        return names


Entry = str | Piece


@dataclass(frozen=True, slots=True)
class Shard:
    """Inputs that are processed together.

    Attributes:
        entries: In order.
        images: How many they give; None where that is not known.
    """

    entries: tuple[Entry, ...]
    images: int | None

    def lines(self) -> bytes:
        """Return the list as JSON, an entry a line."""
        plain = (entry if isinstance(entry, str) else asdict(entry) for entry in self.entries)
        return b"".join(json.dumps(entry).encode() + b"\n" for entry in plain)

    def images_in(self) -> Iterator[str]:
        """Yield the name of every image.

        Raises:
            InputError: An archive has changed since it was planned.
        """
        for entry in self.entries:
            if isinstance(entry, str):
                yield entry
            else:
                yield from entry.images()


def parse_entries(content: bytes) -> Iterator[Entry]:
    """Read a list as `Shard.lines` writes it."""
    for entry in json.loads(b"[%s]" % b",".join(content.splitlines())):
        yield entry if isinstance(entry, str) else Piece(**entry)


def cut(entries: Iterable[str], size: int, warn: Callable[[str], None] = lambda _: None) -> Iterator[Shard]:
    """Cut inputs into shards of ``size`` images; an archive is not mixed with others unless it is small.

    Args:
        entries: Names of images and of archives, as `images.paths.find_entries` gives them.
        size: Images a shard.
        warn: Told of archives without images, which are left out.
    """
    waiting: list[Entry] = []
    held = 0
    for entry in entries:
        archive = is_archive(entry) and not split_member(entry)
        for part, images in _pieces(entry, size) if archive else ((entry, 1),):
            if images == 0:
                warn(f"no images in {entry}")
                continue
            if waiting and (images is None or held + images > size):
                yield Shard(tuple(waiting), held)
                waiting, held = [], 0
            if images is None:
                yield Shard((part,), None)
                continue
            waiting.append(part)
            held += images
            if held >= size:
                yield Shard(tuple(waiting), held)
                waiting, held = [], 0
    if waiting:
        yield Shard(tuple(waiting), held)


def _pieces(archive: str, size: int) -> Iterator[tuple[Entry, int | None]]:
    """Cut an archive into parts of ``size`` images, Parquet files between their row groups; with their counts.

    To know the members of a tar in a store, all of it has to be read: it is left whole, and not counted.
    """
    if scheme_of(archive) and archive.lower().endswith(".tar"):
        yield Piece(archive), None
        return
    names, start = expand(archive), 0
    for stop in _cuts(archive, size):
        some = [*islice(names, stop - start)]
        following = next(names, None)
        if following is None:
            yield Piece(archive, start, None, _hash(some)), len(some)
            return
        yield Piece(archive, start, stop, _hash(some)), len(some)
        names, start = chain([following], names), stop
    some = [*names]
    yield Piece(archive, start, None, _hash(some)), len(some)


def _cuts(archive: str, size: int) -> Iterator[int]:
    """Yield where an archive is cut, its end aside; without end where any place will do."""
    if not archive.lower().endswith(".parquet"):
        yield from count(size, size)
    try:
        opened = open_archive(archive)
    except ImageError:
        return
    last = 0
    for place in opened.group_starts[1:-1] if isinstance(opened, ParquetArchive) else ():
        if place - last >= size:
            yield place
            last = place


def _hash(names: Iterable[str]) -> str:
    hashed = hashlib.sha256()
    for name in names:
        hashed.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()
