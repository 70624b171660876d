"""How much the feature cache keeps: what it holds, what is removed by age or size, and a limit that is kept to."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..system.sizes import parse_size
from ..system.user_folders import cache_folder
from .database import Database, Warn

SCHEMA = 2
FILE_NAME = f"features-{SCHEMA}.sqlite"
"""Each schema has a file of its own, so that two versions of this program can use one folder."""

_OURS = re.compile(r"features-\d+\.sqlite(-wal|-shm|\.damaged-\d+)?")
_FIXED_PAGES = 13
"""What the file takes without any row: the schema, a page for each table and index, and a branch of each."""
LIMIT_VARIABLE = "ZEROSHOT_CACHE_MAX_SIZE"
"""Environment variable that sets how much of the disk kept features may take, such as ``2GB``."""
_KEPT_SHARE = 0.9  # of the limit, where it is exceeded: else every batch would have to remove some
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What the cache holds for one model.

    Attributes:
        model: The model's name when it was first used.
        rows: Features of images and labels.
        megabytes: Their size.
        oldest: Days since the least recently used one was used.
    """

    model: str
    rows: int
    megabytes: float
    oldest: int


class CacheUpkeep(Database):
    """The file of the cache, with what keeps it small.

    Args:
        path: The SQLite file; in the cache folder unless it is given.
        tables: SQL that makes the tables.
        warn: Told, in one line, of whatever goes wrong.

    Raises:
        UsageError: ``$ZEROSHOT_CACHE_MAX_SIZE`` is no size.
    """

    def __init__(self, path: Path | None, tables: str, warn: Warn) -> None:
        super().__init__(path or cache_folder() / FILE_NAME, SCHEMA, tables, warn)
        limit = os.environ.get(LIMIT_VARIABLE)
        self._limit = parse_size(limit, f"${LIMIT_VARIABLE}") if limit else None

    def stored(self) -> list[StoredModel]:
        """Return what is stored for each model, largest first."""
        with self.guarded():
            connection = self.connection()
            found = connection.execute(
                "SELECT name, COUNT(*), SUM(LENGTH(row)), MIN(day) FROM features JOIN models ON key = model"
                " GROUP BY name ORDER BY 3 DESC"
            )
            return [StoredModel(name, rows, size / 1e6, max(0, today() - day)) for name, rows, size, day in found]
        return []

    def size(self) -> int:
        """Return the bytes on disk: of the database, damaged ones set aside, and those of other versions."""
        return sum(path.stat().st_size for path in self._files() if path.exists())

    def clear(self) -> None:
        """Remove the database, damaged ones set aside, and those of other versions.

        Raises:
            OSError: It cannot be removed, or is another program's.
        """
        self.close()
        if self.is_foreign():
            raise OSError(errno.EPERM, "another program's tables are in it", str(self.path))
        for path in self._files():
            if path.exists():  # a folder that is read-only refuses to remove even what is not there
                path.unlink(missing_ok=True)

    def prune(self, *, days: int | None = None, max_bytes: int | None = None) -> int:
        """Remove rows that were not used for some days, then the least recently used beyond a size on disk.

        What was set aside, and what other versions keep, is removed whole once it was not written for so many days;
        beyond a size it goes first, if it was not written today.

        Returns:
            How many rows were removed.
        """
        removed = 0
        with self.guarded():
            connection = self.connection()
            too_much = max_bytes is not None and self.size() > max_bytes
            for age in ([days] if days is not None else []) + ([1] if too_much else []):
                for path in self._left(age):
                    path.unlink(missing_ok=True)
            with connection:
                if days is not None:
                    removed += connection.execute("DELETE FROM features WHERE day <= ?", (today() - days,)).rowcount
                if max_bytes is not None:
                    removed += self._delete_beyond(connection, max_bytes - self._size_of_others())
                connection.execute("DELETE FROM files WHERE content NOT IN (SELECT content FROM features)")
                connection.execute("DELETE FROM models WHERE key NOT IN (SELECT model FROM features)")
                connection.execute("DELETE FROM listings")  # VACUUM counts rows anew
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the log keeps a second copy
        return removed

    def keep_within_limit(self, connection: sqlite3.Connection) -> None:
        """Remove the least recently used rows where more than the limit is in use; new ones take their pages.

        The file itself shrinks only if it is far larger: rewriting it takes as long as a copy of it.
        """
        if self._limit is None:
            return
        pages, free, size = _page_counts(connection)
        if (pages - free) * size <= self._limit:
            return
        with self.writing(connection):
            connection.execute("DELETE FROM listings")
            self._delete_beyond(connection, int(self._limit * _KEPT_SHARE))
        if pages * size > 2 * self._limit:
            with suppress(sqlite3.OperationalError):  # another process reads it, or the disk has no room for a copy
                connection.execute("VACUUM")

    def _delete_beyond(self, connection: sqlite3.Connection, max_bytes: int) -> int:
        """Delete the least recently used rows until the others take at most so much of the file."""
        pages, free, size = _page_counts(connection)
        rows = connection.execute("SELECT SUM(LENGTH(row)) FROM features").fetchone()[0] or 0
        overhead = max(1.0, (pages - free - _FIXED_PAGES) * size / max(rows, 1))  # bytes of the file for one of a row
        limit = (max_bytes - _FIXED_PAGES * size) / overhead
        return connection.execute(
            "DELETE FROM features WHERE (model, content) IN (SELECT model, content FROM ("
            "SELECT model, content, SUM(LENGTH(row)) OVER (ORDER BY day DESC, rowid DESC) AS kept"
            " FROM features) WHERE kept > ?)",
            (limit,),
        ).rowcount

    def _size_of_others(self) -> int:
        """Return the bytes of what is not the store's own."""
        return sum(path.stat().st_size for path in self._files() if path not in self.parts() and path.exists())

    def _left(self, days: int) -> list[Path]:
        """Return files of other versions or set aside that were not written for some days, with their logs."""
        left = []
        for path in self._files():
            main = path.with_name(path.name.removesuffix("-wal").removesuffix("-shm"))
            parts = (main, main.with_name(f"{main.name}-wal"))
            written = max((part.stat().st_mtime for part in parts if part.exists()), default=0.0)
            if main != self.path and written <= time.time() - days * _DAY:
                left.append(path)
        return left

    def _files(self) -> list[Path]:
        """Return all of this program's files; in the cache folder also those of other versions."""
        beside = self.path.parent.glob(f"{self.path.name}.damaged-*")
        if self.path.name == FILE_NAME:
            beside = (path for path in self.path.parent.glob("features-*") if _OURS.fullmatch(path.name))
        return list(dict.fromkeys([*self.parts(), *beside]))


def _page_counts(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return a file's pages, those of them that are free, and the bytes of one."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, size


def today() -> int:
    """Return the day, counted from 1970: what is written beside a row that is used."""
    return int(time.time() // _DAY)
