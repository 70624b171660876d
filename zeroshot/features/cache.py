"""The feature cache: of images by their content, of labels by their prompts.

One SQLite file in the cache folder. An image's key is the SHA-256 of its bytes with the model's fingerprint and the
way it was opened; path, size and times are only a shortcut to the hash.
Rows are float32: in float16 a logit scale of 100 would turn the rounding into more than 1e-4 of probability.
The cache may always be lost: whatever goes wrong with it is a warning, and the answer is computed.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..encoder import EncoderSpec, Features
from ..images.decode import DecodeOptions
from . import cache_upkeep, folder_listings
from .cache_upkeep import CacheUpkeep
from .database import Warn
from .decoder_fingerprint import measure, who_opens
from .folder_listings import Entry, Listing, Rows
from .keys import FileState, State, image_key

_TABLES = """
CREATE TABLE IF NOT EXISTS models (key BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS features (
    model BLOB NOT NULL, content BLOB NOT NULL, row BLOB NOT NULL, checksum INTEGER NOT NULL, day INTEGER NOT NULL,
    PRIMARY KEY (model, content));
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, changed INTEGER NOT NULL,
    inode INTEGER NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measures (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_ASKED = 500
"""Files that are looked up by one statement."""
_FIND_MANY = """
SELECT path, size, modified, changed, inode, f.content, row, checksum, day, x.rowid
FROM files AS f JOIN features AS x ON x.model = ? AND x.content = f.content WHERE path IN ({})
"""
_NOTHING = (b"", b"", 0, 0, 0)


class FeatureCache(CacheUpkeep):
    """The store.

    Args:
        path: The SQLite file; in the cache folder unless it is given.
        warn: Told, in one line, of whatever goes wrong.

    Raises:
        UsageError: ``$ZEROSHOT_CACHE_MAX_SIZE`` is no size.
    """

    def __init__(self, path: Path | None = None, warn: Warn = lambda _: None) -> None:
        super().__init__(path, _TABLES + folder_listings.TABLES, warn)

    def find_content(self, state: FileState) -> bytes | None:
        """Return the hash of a file that has not changed since it was read, or None."""
        with self.guarded():
            connection = self.connection()
            found = connection.execute(
                "SELECT content FROM files WHERE path = ? AND size = ? AND modified = ? AND changed = ? AND inode = ?",
                (state.path, state.size, state.modified, state.changed, state.inode),
            )
            row = found.fetchone()
            return row[0] if row else None
        return None

    def find(self, model: bytes, content: bytes, dim: int) -> Features | None:
        """Return a stored row, shape ``(dim,)``, or None; a row that does not match its checksum counts as absent."""
        with self.guarded():
            connection = self.connection()
            found = connection.execute(
                "SELECT row, checksum, day FROM features WHERE model = ? AND content = ?", (model, content)
            ).fetchone()
            if found is None or len(found[0]) != 4 * dim or zlib.crc32(content + found[0]) != found[1]:
                return None
            # At most once a day: reading should not mean writing. A day to come is from a clock that was wrong.
            if found[2] != cache_upkeep.today() and self._writable:
                with self.writing(connection):
                    connection.execute(
                        "UPDATE features SET day = ? WHERE model = ? AND content = ?",
                        (cache_upkeep.today(), model, content),
                    )
            return np.frombuffer(found[0], dtype="<f4").astype(np.float32)
        return None

    def find_texts(self, model: bytes, contents: Sequence[bytes], dim: int) -> dict[bytes, Features]:
        """Return the rows of those labels that are known, many at once, as `find` does for one."""
        found: dict[bytes, bytes] = {}
        today = cache_upkeep.today()
        with self.guarded():
            connection = self.connection()
            aged: list[bytes] = []
            for start in range(0, len(contents), _ASKED):
                part = contents[start : start + _ASKED]
                marks = ",".join("?" * len(part))
                for content, row, checksum, day in connection.execute(
                    f"SELECT content, row, checksum, day FROM features WHERE model = ? AND content IN ({marks})",
                    (model, *part),
                ):
                    if len(row) == 4 * dim and zlib.crc32(row, zlib.crc32(content)) == checksum:
                        found[content] = row
                        aged += [content] if day != today else []
            self._note_use(connection, model, aged, [])
        rows = np.frombuffer(b"".join(found.values()), dtype="<f4").astype(np.float32).reshape(-1, dim)
        return dict(zip(found, rows, strict=True))

    def find_many(
        self, model: bytes, states: Sequence[State], dim: int, listed: Container[bytes] = ()
    ) -> tuple[list[int], Features]:
        """Look up files as `find_content` and `find` do, many at once.

        Args:
            model: The key that their features are kept under.
            states: Of the files.
            dim: Length of a row.
            listed: Folders, with a slash at their end, whose listings do not lead to these files: those that are found
                are noted there. Of others no listing is ever asked for, and reading must not mean writing.

        Returns:
            The places in `states` of those whose features are known, ascending; these, shape ``(n_found, dim)``.
        """
        places: list[int] = []
        rows: list[bytes] = []
        entries: list[Entry] = []
        with self.guarded():
            connection = self.connection()
            aged: list[bytes] = []
            today = cache_upkeep.today()
            for start in range(0, len(states), _ASKED):
                part = states[start : start + _ASKED]
                marks = ",".join("?" * len(part))
                found = connection.execute(_FIND_MANY.format(marks), (model, *(state[0] for state in part)))
                # Values as they are compared: path, size, modified, changed, inode.
                by_state = {row[:5]: row[5:] for row in found}
                for place, state in enumerate(part, start):
                    content, row, checksum, day, number = by_state.get(state, _NOTHING)
                    if len(row) == 4 * dim and zlib.crc32(row, zlib.crc32(content)) == checksum:
                        places.append(place)
                        rows.append(row)
                        if state[0][: state[0].rfind(b"/") + 1] in listed:
                            entries.append(Entry(state, content, number))
                        if day != today:
                            aged.append(content)
            self._note_use(connection, model, aged, entries)
        return places[: len(rows)], np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32).reshape(-1, dim)

    def listing(self, model: bytes, folder: bytes) -> Listing | None:
        """Return what is known of a folder's files, by the folder's absolute path with a slash at its end; or None."""
        with self.guarded():
            connection = self.connection()
            found, newest = folder_listings.load(connection, model, folder)
            if found is not None and newest and self._writable and not self._frozen:
                with self.writing(connection):
                    folder_listings.put_in_order(connection, model, folder, found, newest)
            return found
        return None

    def find_listed(self, model: bytes, listing: Listing, places: npt.NDArray[np.intp], dim: int) -> Rows:
        """Return the rows of files of a listing, by their places in it."""
        if len(places):
            with self.guarded():
                connection = self.connection()
                numbers, contents = listing.rows[places], listing.contents[places]
                rows = folder_listings.find_rows(connection, model, numbers, contents, dim, cache_upkeep.today())
                self._note_use(connection, model, rows.aged, [])
                return rows
        return Rows(np.zeros(len(places), dtype=np.bool_), np.zeros((0, dim), dtype=np.float32), [])

    def _note_use(
        self, connection: sqlite3.Connection, model: bytes, aged: Sequence[bytes], entries: Sequence[Entry]
    ) -> None:
        """Note the day for rows that were last used on another, and files for their folders' listings."""
        entries = [] if self._frozen else entries  # a folder that cannot be written is no fault, and is not said
        if (aged or entries) and self._writable:
            with self.writing(connection):
                connection.executemany(
                    "UPDATE features SET day = ? WHERE model = ? AND content = ?",
                    [(cache_upkeep.today(), model, content) for content in aged],
                )
                folder_listings.save(connection, model, entries)

    def add(
        self,
        model: bytes,
        name: str,
        rows: Iterable[tuple[bytes, Features]],
        files: Iterable[tuple[FileState, bytes]] = (),
    ) -> None:
        """Store rows of features for a model, and the hashes of files, in one transaction."""
        packed = [(content, np.asarray(row, dtype="<f4").tobytes()) for content, row in rows]
        with self.guarded():
            connection = self.connection()
            if not self._writable:
                return
            with self.writing(connection):
                connection.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", (model, name))
                connection.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)",
                    [(model, content, row, zlib.crc32(content + row), cache_upkeep.today()) for content, row in packed],
                )
                noted = [((s.path, s.size, s.modified, s.changed, s.inode), content) for s, content in files]
                connection.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", [(*state, c) for state, c in noted]
                )
                numbers = folder_listings.numbers_of(connection, model, [content for _, content in noted])
                entries = [Entry(state, c, numbers[c]) for state, c in noted if c in numbers]
                folder_listings.save(connection, model, entries)
            self.keep_within_limit(connection)

    def measured(self, name: bytes, measure: Callable[[], bytes]) -> bytes:
        """Return what was measured under a name, measuring it where it is not known yet."""
        with self.guarded():
            found = self.connection().execute("SELECT value FROM measures WHERE name = ?", (name,)).fetchone()
            if found:
                return bytes(found[0])
        value = measure()
        with self.guarded():
            connection = self.connection()
            if self._writable:
                with self.writing(connection):
                    connection.execute("INSERT OR REPLACE INTO measures VALUES (?, ?)", (name, value))
        return value

    def image_key(self, spec: EncoderSpec, how: DecodeOptions) -> bytes:
        """Return the key of a model with a way of opening images, as the libraries installed here open them."""
        made = self.measured(who_opens(spec.preprocessing), partial(measure, spec.preprocessing))
        return image_key(spec, how, made)
