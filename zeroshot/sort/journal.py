"""The write-ahead journal of a sorting run: each step is on the disk before it happens, so that it can be undone.

One JSON object a line, ASCII, only ever appended to. A step is announced, and the disk holds the announcement, before
the first file changes; how it ended may be lost with the power, since it can be read off the files themselves.

    {"format": "zeroshot-journal", "version": 1, "into": ..., "token": ...}
    {"folder": "cat"}
    {"begin": 1, "method": "move", "source": ..., "target": "cat/1.jpg", "size": ..., "mtime_ns": ...}
    {"begin": 2, "method": "copy out", "member": "/home/me/x.tar::1.jpg", ...}
    {"done": 1, "mtime_ns": ..., "sha256": ...}          or {"failed": 1, "reason": ...}
    {"undoing": 1}  {"undone": 1}                        or {"kept": 1, "reason": ...}
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..system.durable_files import BINARY, BusyError, lock, sync_folder
from .journal_reader import FOLDER, FORMAT, VERSION, Entry, History, read_history
from .step import Placed, Task

_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?\.jsonl")
"""A journal's name: when its run began, and a number where that alone does not tell it from others."""

_MODE = os.O_RDWR | os.O_APPEND | BINARY


class Journal:
    """An open journal, locked against other processes."""

    def __init__(self, path: Path, descriptor: int, history: History) -> None:
        self.path = path
        self.history = history
        self._descriptor = descriptor

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    @staticmethod
    def create(into: Path) -> Journal:
        """Begin a journal in a folder, which is made if it is not there.

        Raises:
            OutputError: It cannot be written there.
        """
        folder = into / FOLDER
        name, first = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"), 1
        try:
            # Names keep the order of the runs, though a clock may be put back between them.
            latest = max(map(_place_in_time, folder.glob("*.jsonl")), default=("", 0, ""))
            if latest[0] >= name:
                name, first = latest[0], latest[1] + 1
            parents = [path.parent for path in (into, *into.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(first, first + 1_000_000):
                path = folder / (f"{name}.jsonl" if number == 1 else f"{name}-{number}.jsonl")
                try:
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | _MODE, 0o600)
                except FileExistsError:
                    continue
                try:
                    lock(descriptor)
                    break
                except BusyError:  # another run looks whether this is the journal of one that was killed
                    os.close(descriptor)
            journal = Journal(path, descriptor, History(into, secrets.token_hex(4)))
            head = {"format": FORMAT, "version": VERSION, "into": str(into), "token": journal.history.token}
            journal._append(head, sync=True)
            sync_folder(folder)
            sync_folder(into)
            for parent in parents:
                with suppress(PermissionError):  # a folder may be writable but not readable
                    sync_folder(parent)
        except OSError as error:
            raise OutputError(f"cannot write a journal in {folder}: {error.strerror}", "give another --into") from error
        return journal

    @staticmethod
    def open(path: Path) -> Journal:
        """Open a journal to undo it; a last line that was cut short is dropped.

        Raises:
            InputError: It cannot be read, is not a journal, or its run is still going on.
        """
        try:
            descriptor = os.open(path, _MODE)
        except OSError as error:
            raise InputError(
                f"cannot open the folder or journal {path}: {error.strerror}",
                "name the folder of `sort --into`, or the journal that `sort` named when it ended",
            ) from error
        try:
            lock(descriptor)
            whole, history = read_history(path)
            os.ftruncate(descriptor, whole)
        except BusyError as error:
            os.close(descriptor)
            raise InputError(
                f"{path} is in use by a run that is still going on", "wait for it, or interrupt it"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        return Journal(path, descriptor, history)

    def announce_folder(self, folder: Path) -> None:
        """Record that a folder is about to be created."""
        self._append({"folder": str(folder.relative_to(self.history.into))}, sync=True)
        self.history.folders.append(folder)

    def announce(self, task: Task) -> None:
        """Record that a step is about to happen; it is on the disk when this returns."""
        entry = {
            "begin": task.number,
            "method": str(task.method),
            "source": str(task.source),
            "target": str(task.target.relative_to(self.history.into)),
            "size": task.size,
            "mtime_ns": task.mtime_ns,
        } | ({"member": task.member} if task.member else {})
        self._append(entry, sync=True)
        self.history.entries[task.number] = Entry(task)

    def finish(self, number: int, placed: Placed) -> None:
        """Record that a step is done."""
        self._append({"done": number, "mtime_ns": placed.mtime_ns, "sha256": placed.sha256})
        self.history.entries[number].placed = placed

    def fail(self, number: int, reason: str) -> None:
        """Record that a step failed and left nothing behind."""
        self._append({"failed": number, "reason": reason})
        self.history.entries[number].settled = True

    def begin_undo(self, number: int) -> None:
        """Record that a step is about to be undone."""
        self._append({"undoing": number}, sync=True)
        self.history.entries[number].tried = True

    def finish_undo(self, number: int) -> None:
        """Record that a step is undone."""
        self._append({"undone": number})
        self.history.entries[number].settled = True

    def keep(self, number: int, reason: str) -> None:
        """Record that a step could not be undone; a later undo tries again."""
        self._append({"kept": number, "reason": reason})

    def _append(self, entry: dict[str, Any], *, sync: bool = False) -> None:
        """Write one line, whole or not at all.

        Raises:
            OutputError: The disk is full or fails; the journal is as it was.
        """
        line = json.dumps(entry).encode("ascii") + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(0, "not all of it was written; the disk is full")
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise OutputError(
                f"cannot write the journal {self.path}: {error.strerror}",
                "free some space, then run again or undo what was done",
            ) from error


def find_journals(into: Path) -> Iterator[Path]:
    """Yield a sorted folder's journals, in the order in which the runs began."""
    yield from sorted((into / FOLDER).glob("*.jsonl"), key=_place_in_time)


def _place_in_time(path: Path) -> tuple[str, int, str]:
    """Return what orders journals by their names: an undo writes to a journal, so its file's time says nothing."""
    found = _NAME.fullmatch(path.name)
    return (found[1], int(found[2] or 1), "") if found else ("", 0, path.name)


def find_open_journals(into: Path) -> list[Path]:
    """Return the journals of a sorted folder that still have something to take back, last run first.

    Raises:
        InputError: The last of all cannot be read; one before it that cannot is left out.
    """
    found = []
    for place, path in enumerate(reversed([*find_journals(into)])):
        try:
            with Journal.open(path) as opened:
                if opened.history.open_entries:
                    found.append(path)
        except InputError as error:
            if not place:
                raise InputError(error.message, f"{error.hint}, or give the journal of an earlier run") from error
    return found
