"""Features that were computed once: of pictures by their content, of labels by their prompts.

One SQLite file in the cache folder, which several processes may use at once. A picture's key is the SHA-256 of its
bytes with the model's fingerprint and the way it was opened; path, size and times are only a shortcut to the hash.
Rows are float32: in float16 a logit scale of 100 would turn the rounding into more than 1e-4 of probability.
The cache may always be lost: whatever goes wrong with it is a warning, and the answer is computed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..encoder import Features
from .folder import cache_folder
from .keys import FileState

FILE_NAME = "features.sqlite"
_SCHEMA = 1
_BUSY_SECONDS = 10.0
# Rows have 1 to 4 KB. In SQLite's 4 KB pages, or in the tree of keys itself (WITHOUT ROWID, which moves a row of more
# than a quarter of a page to a page of its own), the file took up to 4.6 times what it holds.
_PAGE_BYTES = 16_384
_LOG_PAGES = 256  # 4 MB of the write-ahead log, then it goes into the file
_FIXED_PAGES = 8
"""What the file takes without any row: the schema, and a page for each table and index."""
_DAY = 86_400
_TABLES = """
CREATE TABLE IF NOT EXISTS models (key BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS features (
    model BLOB NOT NULL, content BLOB NOT NULL, row BLOB NOT NULL, checksum INTEGER NOT NULL, day INTEGER NOT NULL,
    PRIMARY KEY (model, content));
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL,
    inode INTEGER NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
"""

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the cache holds for one model.

    Attributes:
        model: The model's name when it was first used.
        rows: Features of pictures and labels.
        megabytes: Their size.
        oldest: Days since the least recently used one was used.
    """

    model: str
    rows: int
    megabytes: float
    oldest: int


class FeatureCache:
    """The store; safe to use from many threads, each of which gets a connection of its own.

    Args:
        path: The SQLite file; it and its folder are made where they are missing.
        warn: Told, in one line, of whatever goes wrong.
    """

    def __init__(self, path: Path | None = None, warn: Warn = lambda _: None) -> None:
        self.path = path or cache_folder() / FILE_NAME
        self._warn = warn
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._usable = True
        self._generation = 0  # counts up when the file is set aside, so that every thread opens the new one

    def find_content(self, state: FileState) -> bytes | None:
        """Return the hash of a file that has not changed since it was read, or None."""
        with self._guard():
            found = self._connection().execute(
                "SELECT content FROM files WHERE path = ? AND size = ? AND modified = ? AND changed = ? AND inode = ?",
                (state.path, state.size, state.modified, state.changed, state.inode),
            )
            row = found.fetchone()
            return row[0] if row else None
        return None

    def find(self, model: bytes, content: bytes, dim: int) -> Features | None:
        """Return a stored row, shape ``(dim,)``, or None; a row that does not match its checksum counts as absent."""
        with self._guard():
            connection = self._connection()
            found = connection.execute(
                "SELECT row, checksum, day FROM features WHERE model = ? AND content = ?", (model, content)
            ).fetchone()
            if found is None or len(found[0]) != 4 * dim or zlib.crc32(content + found[0]) != found[1]:
                return None
            # At most once a day: reading should not mean writing. A day to come is from a clock that was wrong.
            if found[2] != _today():
                with connection:
                    connection.execute(
                        "UPDATE features SET day = ? WHERE model = ? AND content = ?", (_today(), model, content)
                    )
            return np.frombuffer(found[0], dtype="<f4").astype(np.float32)
        return None

    def add(
        self,
        model: bytes,
        name: str,
        rows: Iterable[tuple[bytes, Features]],
        files: Iterable[tuple[FileState, bytes]] = (),
    ) -> None:
        """Store rows of features under a model, and the hashes of files, in one transaction."""
        packed = [(content, np.asarray(row, dtype="<f4").tobytes()) for content, row in rows]
        with self._guard(), self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", (model, name))
            connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)",
                [(model, content, row, zlib.crc32(content + row), _today()) for content, row in packed],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                [(s.path, s.size, s.modified, s.changed, s.inode, content) for s, content in files],
            )

    def stored(self) -> list[Stored]:
        """Return what is stored for each model, largest first."""
        with self._guard():
            found = self._connection().execute(
                "SELECT name, COUNT(*), SUM(LENGTH(row)), MIN(day) FROM features JOIN models ON key = model"
                " GROUP BY name ORDER BY 3 DESC"
            )
            return [Stored(name, rows, size / 1e6, max(0, _today() - day)) for name, rows, size, day in found]
        return []

    def size(self) -> int:
        """Return the bytes that the store takes on disk."""
        return sum(path.stat().st_size for path in self._files() if path.exists())

    def clear(self) -> None:
        """Remove the store from the disk, and what was set aside.

        Raises:
            OSError: It cannot be removed.
        """
        self.close()
        for path in self._files():
            path.unlink(missing_ok=True)

    def prune(self, *, days: int | None = None, megabytes: float | None = None) -> int:
        """Remove rows that were not used for some days, then the least recently used beyond a size.

        Returns:
            How many rows were removed.
        """
        removed = 0
        with self._guard():
            connection = self._connection()
            with connection:
                if days is not None:
                    removed += connection.execute("DELETE FROM features WHERE day <= ?", (_today() - days,)).rowcount
                if megabytes is not None:
                    limit = megabytes * 1e6 / self._overhead(connection)
                    removed += connection.execute(
                        "DELETE FROM features WHERE (model, content) IN (SELECT model, content FROM ("
                        "SELECT model, content, SUM(LENGTH(row)) OVER (ORDER BY day DESC, model, content) AS kept"
                        " FROM features) WHERE kept > ?)",
                        (limit,),
                    ).rowcount
                connection.execute("DELETE FROM files WHERE content NOT IN (SELECT content FROM features)")
                connection.execute("DELETE FROM models WHERE key NOT IN (SELECT model FROM features)")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the log keeps a second copy
        return removed

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._threads, "connection", None)
        if connection is not None:
            connection.close()
            self._threads.connection = None

    def _overhead(self, connection: sqlite3.Connection) -> float:
        """Return how many bytes of the file a byte of a row takes."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        rows = connection.execute("SELECT SUM(LENGTH(row)) FROM features").fetchone()[0] or 0
        return max(1.0, float((pages - free - _FIXED_PAGES) * size) / max(rows, 1))

    def _identity(self) -> tuple[int, int] | None:
        """Return what tells the file from another one of its name; None where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _files(self) -> list[Path]:
        return [*self._parts(), *self.path.parent.glob(f"{self.path.name}.damaged-*")]

    def _parts(self) -> list[Path]:
        return [self.path.with_name(self.path.name + ending) for ending in ("", "-wal", "-shm")]

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection, opening the store if need be."""
        if not self._usable:
            raise sqlite3.OperationalError("switched off after an error")
        if getattr(self._threads, "connection", None) is None or self._threads.generation != self._generation:
            with self._lock:
                # Noted first: what fails from here on is this file's fault, not that of one made meanwhile.
                self._threads.connection, self._threads.generation = None, self._generation
                self._threads.identity = self._identity()
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a file that is new
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
                # The last transactions may be lost in a power cut, never the file: it can all be made again.
                connection.execute("PRAGMA synchronous = NORMAL")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _SCHEMA):
                    raise sqlite3.DatabaseError(f"made by another version of zeroshot (schema {version})")
                connection.executescript(_TABLES)
                connection.execute(f"PRAGMA user_version = {_SCHEMA}")
                self._threads.connection, self._threads.identity = connection, self._identity()
        connection = self._threads.connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let no trouble with the cache become trouble with the run.

        A damaged store is set aside and made anew; one that cannot be used (read-only, full disk) is switched off.
        """
        try:
            yield
        except sqlite3.OperationalError as error:
            self._switch_off(str(error))
        except sqlite3.DatabaseError as error:
            self._set_aside(str(error))
        except OSError as error:
            self._switch_off(error.strerror or str(error))

    def _switch_off(self, reason: str) -> None:
        with self._lock:
            if self._usable:
                self._usable = False
                self._warn(f"the feature cache {self.path} cannot be used: {reason}; going on without it")

    def _set_aside(self, reason: str) -> None:
        with self._lock:
            if self._threads.__dict__.get("generation", self._generation) != self._generation:
                return  # another thread has done it
            self._generation += 1
            if self._identity() != self._threads.__dict__.get("identity"):
                return  # another process has done it: what lies there now is not the file that is damaged
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            try:
                self.path.replace(aside)
                for path in self._parts()[1:]:
                    path.unlink(missing_ok=True)
            except OSError as error:
                self._usable = False
                self._warn(f"the feature cache {self.path} is damaged ({reason}) and cannot be moved: {error.strerror}")
                return
        self._warn(f"the feature cache was damaged ({reason}); it was moved to {aside.name} and is made anew")


def _today() -> int:
    return int(time.time() // _DAY)
