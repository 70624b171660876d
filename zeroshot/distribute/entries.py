"""What a shard's list holds: names of images, and parts of archives that are opened when it is processed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from ..errors import ImageError
from ..images.paths import expand
from ..images.sources.names import is_archive, scheme_of, split_member
from ..images.sources.parquet import ParquetArchive
from ..images.sources.pool import open_archive


@dataclass(frozen=True, slots=True)
class Piece:
    """Images of an archive that stand one behind the other.

    Attributes:
        archive: Its name.
        start: The first of them, counted from 0.
        stop: Behind the last; None for the archive's end.
    """

    archive: str
    start: int = 0
    stop: int | None = None


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
        plain = (
            entry if isinstance(entry, str) else {"archive": entry.archive, "start": entry.start, "stop": entry.stop}
            for entry in self.entries
        )
        return b"".join(json.dumps(entry).encode() + b"\n" for entry in plain)

    def images_in(self) -> Iterator[str]:
        """Yield the name of every image."""
        for entry in self.entries:
            if isinstance(entry, str):
                yield entry
            else:
                yield from islice(expand(entry.archive), entry.start, entry.stop)


def parse_entries(content: bytes) -> Iterator[Entry]:
    """Read a list as `Shard.lines` writes it."""
    for entry in json.loads(b"[%s]" % b",".join(content.splitlines())):
        yield entry if isinstance(entry, str) else Piece(entry["archive"], entry["start"], entry["stop"])


def cut(entries: Iterable[str], size: int) -> Iterator[Shard]:
    """Cut inputs into shards of ``size`` images; an archive is not mixed with others unless it is small.

    Args:
        entries: Names of images and of archives, as `images.paths.find_entries` gives them.
        size: Images a shard.
    """
    waiting: list[Entry] = []
    count = 0
    for entry in entries:
        archive = is_archive(entry) and not split_member(entry)
        for part, images in _pieces(entry, size) if archive else ((entry, 1),):
            if waiting and (images is None or count + images > size):
                yield Shard(tuple(waiting), count)
                waiting, count = [], 0
            if images is None:
                yield Shard((part,), None)
                continue
            waiting.append(part)
            count += images
            if count >= size:
                yield Shard(tuple(waiting), count)
                waiting, count = [], 0
    if waiting:
        yield Shard(tuple(waiting), count)


def _pieces(archive: str, size: int) -> Iterator[tuple[Entry, int | None]]:
    """Cut an archive into parts of ``size`` images, Parquet files between their row groups; with their counts.

    To know the members of a tar in a store, all of it has to be read: it is left whole, and not counted.
    """
    if scheme_of(archive) and archive.lower().endswith(".tar"):
        yield Piece(archive), None
        return
    count = sum(1 for _ in expand(archive))
    cuts = [*_ends(archive, count, size)]
    for start, stop in zip([0, *cuts], [*cuts, None], strict=True):
        yield Piece(archive, start, stop), (count if stop is None else stop) - start


def _ends(archive: str, count: int, size: int) -> Iterator[int]:
    """Yield where an archive is cut, its end aside."""
    places: Iterable[int] = range(size, count, size)
    if archive.lower().endswith(".parquet"):
        try:
            opened = open_archive(archive)
        except ImageError:
            return
        places = opened.group_starts[1:-1] if isinstance(opened, ParquetArchive) else ()
    last = 0
    for place in places:
        if place - last >= size:
            yield place
            last = place
