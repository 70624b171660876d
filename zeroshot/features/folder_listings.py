"""Stores for each folder what its files were and which rows of the cache are theirs, to find them all in one look-up.

A listing only leads to rows sooner: it can be dropped at any time, and a row it leads to is compared with the content
that the file had.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from .keys import State

TABLES = """
CREATE TABLE IF NOT EXISTS listings (
    id INTEGER PRIMARY KEY, model BLOB NOT NULL, folder BLOB NOT NULL, names BLOB NOT NULL, numbers BLOB NOT NULL,
    contents BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS listings_of_folder ON listings (model, folder);
"""
_CONTENT_BYTES = 32
_NUMBERS = 5
"""Of a file: size, modified, changed, inode, and the number of its row."""
_PART = 4096
"""Files in one row of the table, where it was put in order."""
_MOST_PARTS = 8
"""Besides those that are full; more are put in order."""
_ASKED = 500
_DIVIDER = b"/"
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file whose features are kept.

    Attributes:
        state: Path, size, modified, changed, inode.
        content: SHA-256 of its bytes.
        row: Number of the row with its features.
    """

    state: State
    content: bytes
    row: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one folder.

    Attributes:
        places: Their names, each with its place in the arrays.
        states: Size, modified, changed and inode, shape ``(n, 4)``.
        rows: Numbers of their rows, shape ``(n,)``.
        contents: SHA-256 of each file's bytes, shape ``(n, 32)``.
    """

    places: dict[str, int]
    states: Int64s
    rows: Int64s
    contents: npt.NDArray[np.uint8]


def save(connection: sqlite3.Connection, model: bytes, entries: Iterable[Entry]) -> None:
    """Note files, by folder; those of archives, and what is told by another hash, are left out."""
    folders: dict[bytes, list[tuple[bytes, Entry]]] = {}
    for entry in entries:
        folder, divider, name = entry.state[0].rpartition(_DIVIDER)
        if divider and b"::" not in entry.state[0] and len(entry.content) == _CONTENT_BYTES:
            folders.setdefault(folder + divider, []).append((name, entry))
    for folder, named in folders.items():
        names = b"\0".join(name for name, _ in named)
        numbers = np.array([(*entry.state[1:], entry.row) for _, entry in named], dtype="<i8").tobytes()
        _insert(connection, model, folder, names, numbers, b"".join(entry.content for _, entry in named))


def _insert(
    connection: sqlite3.Connection, model: bytes, folder: bytes, names: bytes, numbers: bytes, contents: bytes
) -> None:
    checksum = zlib.crc32(contents, zlib.crc32(numbers, zlib.crc32(names)))
    connection.execute(
        "INSERT INTO listings (model, folder, names, numbers, contents, checksum) VALUES (?, ?, ?, ?, ?, ?)",
        (model, folder, names, numbers, contents, checksum),
    )


def load(connection: sqlite3.Connection, model: bytes, folder: bytes) -> tuple[Listing | None, int]:
    """Return a folder's listing, None where there is none, and the number of its newest part if it has too many.

    Of a file that was noted more than once the newest note counts; a damaged part counts as absent.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'listings'").fetchone():
        return None, 0  # an older version's, which cannot be written
    found = connection.execute(
        "SELECT id, names, numbers, contents, checksum FROM listings WHERE model = ? AND folder = ? ORDER BY id",
        (model, folder),
    ).fetchall()
    parts = [part for part in found if zlib.crc32(part[3], zlib.crc32(part[2], zlib.crc32(part[1]))) == part[4]]
    if not parts:
        return None, 0
    names = os.fsdecode(b"\0".join(part[1] for part in parts)).split("\0")
    numbers = np.frombuffer(b"".join(part[2] for part in parts), dtype="<i8").reshape(-1, _NUMBERS)
    contents = np.frombuffer(b"".join(part[3] for part in parts), dtype=np.uint8).reshape(-1, _CONTENT_BYTES)
    places = dict(zip(names, range(len(names)), strict=True))
    listing = Listing(places, numbers[:, :4].astype(np.int64), numbers[:, 4].astype(np.int64), contents)
    many = len(found) > len(places) // _PART + _MOST_PARTS or len(names) > 2 * len(places)
    return listing, found[-1][0] if many else 0


def put_in_order(connection: sqlite3.Connection, model: bytes, folder: bytes, listing: Listing, newest: int) -> None:
    """Store a listing in few parts, in place of those up to the newest that it was made of."""
    connection.execute("DELETE FROM listings WHERE model = ? AND folder = ? AND id <= ?", (model, folder, newest))
    names = list(map(os.fsencode, listing.places))
    order = np.fromiter(listing.places.values(), dtype=np.intp, count=len(names))
    numbers = np.column_stack([listing.states, listing.rows])[order].astype("<i8")
    contents = listing.contents[order]
    for start in range(0, len(names), _PART):
        part = slice(start, start + _PART)
        _insert(connection, model, folder, b"\0".join(names[part]), numbers[part].tobytes(), contents[part].tobytes())


def numbers_of(connection: sqlite3.Connection, model: bytes, contents: Sequence[bytes]) -> dict[bytes, int]:
    """Return the numbers of the rows of contents."""
    numbers: dict[bytes, int] = {}
    for start in range(0, len(contents), _ASKED):
        part = contents[start : start + _ASKED]
        marks = ",".join("?" * len(part))
        numbers |= connection.execute(
            f"SELECT content, rowid FROM features WHERE model = ? AND content IN ({marks})", (model, *part)
        )
    return numbers


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that were asked for by number.

    Attributes:
        found: Whether each is there and whole, shape ``(n_asked,)``.
        features: Those, shape ``(n_found, dim)``.
        aged: Contents of those that were last used on another day.
    """

    found: npt.NDArray[np.bool_]
    features: Features
    aged: list[bytes]


def find_rows(
    connection: sqlite3.Connection,
    model: bytes,
    numbers: Int64s,
    contents: npt.NDArray[np.uint8],
    dim: int,
    today: int,
) -> Rows:
    """Return rows by their numbers, in order; one of another content, or that its checksum does not fit, is missing."""
    n = len(numbers)
    first, last = int(numbers.min()), int(numbers.max())
    if last - first < 2 * n:
        stored = connection.execute(
            "SELECT rowid, content, row, checksum, day FROM features WHERE rowid BETWEEN ? AND ? AND +model = ?",
            (first, last, model),
        ).fetchall()
    else:
        stored = []
        for start in range(0, n, _ASKED):
            asked = numbers[start : start + _ASKED].tolist()
            stored += connection.execute(
                "SELECT rowid, content, row, checksum, day FROM features"
                f" WHERE rowid IN ({','.join('?' * len(asked))}) AND +model = ?",
                (*asked, model),
            )
    wanted = numbers.tolist()
    if [row[0] for row in stored] != wanted:
        by_number = {row[0]: row for row in stored}
        absent = (0, b"", b"", 0, 0)
        stored = [by_number.get(number, absent) for number in wanted]
    _, kept, rows, checksums, days = zip(*stored, strict=True)
    expected = contents.tobytes()
    whole = [zlib.crc32(row, zlib.crc32(content)) for content, row in zip(kept, rows, strict=True)] == list(checksums)
    if whole and b"".join(kept) == expected and set(map(len, rows)) == {4 * dim}:
        found = np.ones(n, dtype=np.bool_)
    else:
        found = np.fromiter(
            (
                content == expected[32 * place : 32 * place + 32]
                and len(row) == 4 * dim
                and zlib.crc32(row, zlib.crc32(content)) == checksum
                for place, (_, content, row, checksum, _) in enumerate(stored)
            ),
            dtype=np.bool_,
            count=n,
        )
        rows = tuple(row for row, there in zip(rows, found.tolist(), strict=True) if there)
    features = np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32).reshape(-1, dim)
    if set(days) == {today}:
        return Rows(found, features, [])
    aged = [row[1] for row, there in zip(stored, found.tolist(), strict=True) if there and row[4] != today]
    return Rows(found, features, aged)
