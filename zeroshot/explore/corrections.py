"""Keeps what a user says about images, as they say it: a table that is only ever appended to.

The columns are ``path,label,not``. A line with a label says what an image is, one with ``not`` what it is not, and
one with neither takes back what was said of it before. `evaluation.labelled_tables.load_targets` reads it as it stands.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputError
from ..messages import printable
from ..system.durable_files import BusyError, lock

HEADER = "path,label,not"


@dataclass(frozen=True, slots=True)
class Said:
    """What was said about one image.

    Attributes:
        label: What it is; empty where that was not said.
        refused: What it is not, in the order in which it was said.
    """

    label: str = ""
    refused: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.label or self.refused)

    def given(self, label: str) -> Said:
        """Return it with a label, which is refused no longer: what was said last counts."""
        return Said(label, tuple(name for name in self.refused if name != label))

    def without(self, label: str) -> Said:
        """Return it with a label refused, which it is not any longer."""
        return Said("" if self.label == label else self.label, tuple(dict.fromkeys((*self.refused, label))))


class Corrections:
    """The table, open and locked; safe to use from many threads.

    Args:
        path: The file; it and its folder are made where they are missing.

    Raises:
        InputError: It is something else, or another process has it.
        OutputError: It cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise OutputError(f"cannot keep corrections in {path}: {error.strerror}", "--corrections FILE") from error
        try:
            lock(self._descriptor)
            self._said, whole = _read(path)
            if whole < os.fstat(self._descriptor).st_size:  # the last line was cut short by a kill or a full disk
                os.ftruncate(self._descriptor, whole)
        except BusyError as error:
            os.close(self._descriptor)
            raise InputError(
                f"{path} is in use by another `zeroshot explore`", "close that one, or name another file"
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise OutputError(f"cannot keep corrections in {path}: {error.strerror}", "--corrections FILE") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def all(self) -> dict[str, Said]:
        """Return what was said, by absolute path."""
        with self._lock:
            return dict(self._said)

    def of(self, path: str) -> Said:
        """Return what was said about an image."""
        return self._said.get(path, Said())

    def say(self, changes: Mapping[str, Said]) -> dict[str, Said]:
        """Keep what is now said about some images; the disk holds it when this returns.

        Images whose paths are not UTF-8, which a table of text cannot hold, are left out.

        Returns:
            What was said before about those that it is kept for.

        Raises:
            InputError: A label cannot be written as text; nothing has changed.
            OutputError: The disk is full or fails; the table is as it was.
        """
        for name in {name for said in changes.values() for name in (said.label, *said.refused)}:
            if not _is_text(name):
                raise InputError(
                    f"the label {printable(name)} is not UTF-8, which a table of text cannot hold", "type it anew"
                )
        changes = {path: said for path, said in changes.items() if _is_text(path)}
        if not changes:
            return {}
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        with self._lock:
            for path, said in changes.items():
                before = self._said.get(path, Said())
                # What was said before is taken back, unless a line alone says the new state.
                if not said or (before.refused and before.refused != said.refused[: len(before.refused)]):
                    writer.writerow((path, "", ""))
                    before = Said()
                for refused in said.refused[len(before.refused) :]:
                    writer.writerow((path, "", refused))
                if said.label:
                    writer.writerow((path, said.label, ""))
                elif before.label:
                    writer.writerow((path, "", ""))
                    writer.writerows((path, "", refused) for refused in said.refused)
            self._append(stream.getvalue())
            earlier = {path: self._said.get(path, Said()) for path in changes}
            for path, said in changes.items():
                if said:
                    self._said[path] = said
                else:
                    self._said.pop(path, None)
            self.version += 1
        return earlier

    def _append(self, text: str) -> None:
        data = text.encode()
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            data = f"{HEADER}\n".encode() + data
        try:
            if os.write(self._descriptor, data) != len(data):
                raise OSError(0, "not all of it was written; the disk is full")
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):  # a device, which holds nothing
                os.ftruncate(self._descriptor, size)
            raise OutputError(
                f"the correction was not kept: {self.path}: {error.strerror}", "free some space, then repeat it"
            ) from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Said], int]:
    """Read a table; return what it says, and how many bytes of it are whole lines."""
    data = path.read_bytes() if path.is_file() else b""
    # A path may hold line ends, which are quoted: the last whole record ends where the number of quotes is even.
    whole = len(data)
    while whole and not (data[whole - 1 : whole] == b"\n" and data.count(b'"', 0, whole) % 2 == 0):
        whole = data.rfind(b"\n", 0, whole - 1) + 1
    said: dict[str, Said] = {}
    if not whole:
        if data and not data.startswith(HEADER[: len(data)].encode()):
            raise InputError(f"{path} is not a table of corrections", f"its first line is {HEADER}; name another file")
        return said, 0
    try:
        rows = csv.reader(io.StringIO(data[:whole].decode("utf-8-sig"), newline=""))
        if ",".join(next(rows)) != HEADER:
            raise ValueError
        for file, label, refused in (row for row in rows if row):
            before = said.get(file, Said())
            if label:
                said[file] = before.given(label)
            elif refused:
                said[file] = before.without(refused)
            else:
                said.pop(file, None)
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a table of corrections", f"its first line is {HEADER}; name another file"
        ) from error
    return said, whole
