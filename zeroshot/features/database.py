"""One SQLite file for several processes and threads; it can be deleted at any time.

Whatever goes wrong with it is a warning: a damaged file is set aside and made anew, one that cannot be written is
read, and one that cannot be read is done without.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_BUSY_SECONDS = 10.0
_RETRY_SECONDS = 0.02
# Rows have 1 to 4 KB. In SQLite's 4 KB pages, or in the tree of keys itself (WITHOUT ROWID, which moves a row of more
# than a quarter of a page to a page of its own), the file took up to 4.6 times what it holds.
_PAGE_BYTES = 16_384
_LOG_PAGES = 256  # 4 MB of the write-ahead log, then it goes into the file
_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

Warn = Callable[[str], None]


class Database:
    """The file; safe to use from many threads, each of which gets a connection of its own.

    Args:
        path: It and its folder are made where they are missing.
        schema: Number of the tables' version, above 0.
        tables: SQL that makes the tables.
        warn: Told, in one line, of whatever goes wrong.
    """

    def __init__(self, path: Path, schema: int, tables: str, warn: Warn) -> None:
        self.path = path
        self._schema = schema
        self._tables = tables
        self._warn = warn
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._usable = True
        self._writable = True
        self._frozen = False
        self._generation = 0  # counts up when the file is set aside, so that every thread opens the new one

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._threads, "connection", None)
        if connection is not None:
            connection.close()
            self._threads.connection = None

    def parts(self) -> list[Path]:
        """Return the paths of the file and of its log, which need not exist."""
        return [self.path.with_name(self.path.name + ending) for ending in ("", "-wal", "-shm")]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep database errors from failing the run: the block ends at the first one."""
        try:
            yield
        except sqlite3.OperationalError as error:
            self._switch_off(str(error))
        except sqlite3.DatabaseError as error:
            if self._frozen:  # it may only have changed meanwhile, and is not ours to move
                self._switch_off(str(error))
            else:
                self._set_aside(str(error))
        except OSError as error:
            self._switch_off(error.strerror or str(error))

    @contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Make the block one transaction; after the first that fails (read-only, full disk) there is only reading."""
        try:
            with connection:
                yield
        except sqlite3.OperationalError as error:
            with self._lock:
                if self._writable:
                    self._writable = False
                    self._warn(f"the feature cache {self.path} cannot be written: {error}; it is only read")

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection, opening the file if need be.

        Raises:
            sqlite3.Error: It cannot be used.
            OSError: Nor can its folder.
        """
        if not self._usable:
            raise sqlite3.OperationalError("switched off after an error")
        if getattr(self._threads, "connection", None) is None or self._threads.generation != self._generation:
            with self._lock:
                # Noted first: what fails from here on is this file's fault, not that of one made meanwhile.
                self._threads.connection, self._threads.generation = None, self._generation
                self._threads.identity = self._identity()
                self._threads.connection = self._open()
                self._threads.identity = self._identity()
        connection = self._threads.connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        """Open the file, or create it; where it cannot be written it is opened as immutable, without a log."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return self._open_for_writing()
            except sqlite3.OperationalError as error:
                # The low byte is the kind of error, whatever its details.
                kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if kind in _NOT_WRITABLE and self.path.is_file():
                    connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True)
                    self._is_made(connection)
                    self._frozen = True
                    return connection
                # SQLite itself does not wait where several processes change a new file's journal at once.
                if kind != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_SECONDS)

    def _open_for_writing(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        made = self._is_made(connection)
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a file that is new
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        # The last transactions may be lost in a power cut, never the file: it can all be made again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(self._tables)  # no write where they are there; a log that was lost takes them along
        if not made:
            connection.execute(f"PRAGMA user_version = {self._schema}")
        return connection

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the tables are there.

        Raises:
            sqlite3.OperationalError: They are those of another version, or of another program.
        """
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, self._schema):
            raise sqlite3.OperationalError(
                f"another version of zeroshot made it (schema {version}, not {self._schema}); it is left as it is"
            )
        if not version and self._holds_others(connection):
            raise sqlite3.OperationalError("another program's tables are in it; move it away")
        return bool(version)

    def is_foreign(self) -> bool:
        """Whether the file is a database of another program."""
        if not self.path.is_file():
            return False
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                return not version and self._holds_others(connection)
        except sqlite3.Error:  # damaged, or of no program
            return False

    def _holds_others(self, connection: sqlite3.Connection) -> bool:
        """Whether the file has tables that are not these."""
        ask = "SELECT name, sql FROM sqlite_master"
        if not (there := connection.execute(ask).fetchall()):
            return False
        with closing(sqlite3.connect(":memory:")) as made:
            made.executescript(self._tables)
            return not set(there) <= set(made.execute(ask))

    def _identity(self) -> tuple[int, int] | None:
        """Return the file's identity (device and inode); None where there is no file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

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
                for path in self.parts()[1:]:
                    path.unlink(missing_ok=True)
            except OSError as error:
                self._usable = False
                self._warn(f"the feature cache {self.path} is damaged ({reason}) and cannot be moved: {error.strerror}")
                return
        self._warn(f"the feature cache was damaged ({reason}); it was moved to {aside.name} and is made anew")
