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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError, OutputError
from ..system.disk import BINARY, BusyError, lock, sync_folder
from .placing import Method, Placed, Task

FOLDER = ".zeroshot"
"""Folder inside the sorted one that holds the journals; hidden, so that no run looks for images there."""

_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?\.jsonl")
"""A journal's name: when its run began, and a number where that alone does not tell it from others."""

_MODE = os.O_RDWR | os.O_APPEND | BINARY
_FORMAT = "zeroshot-journal"
_VERSION = 1
_BEGINNING = json.dumps({"format": _FORMAT})[:-1].encode()


@dataclass(slots=True)
class Entry:
    """A step and its state.

    Attributes:
        task: What was announced last; a step may be announced again with another method.
        placed: How it ended; None while the journal does not say.
        settled: It has failed or is undone: there is nothing to undo.
        tried: An undo has begun with it.
    """

    task: Task
    placed: Placed | None = None
    settled: bool = False
    tried: bool = False


@dataclass(slots=True)
class History:
    """The content of a journal.

    Attributes:
        into: The folder sorted into.
        token: Sets this run's temporary files apart.
        entries: The steps, by number.
        folders: Folders that the run made, in order.
    """

    into: Path
    token: str
    entries: dict[int, Entry] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    @property
    def open_entries(self) -> list[Entry]:
        """The steps that may have left something to undo, last first."""
        return [entry for _, entry in sorted(self.entries.items(), reverse=True) if not entry.settled]


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
            head = {"format": _FORMAT, "version": _VERSION, "into": str(into), "token": journal.history.token}
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
                f"cannot open the journal {path}: {error.strerror}", "`sort` names it when it begins and ends"
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


def read_history(path: Path) -> tuple[int, History]:
    """Read a journal.

    Returns:
        How many bytes of it are whole, and what they say.

    Raises:
        InputError: It is not a journal, or damaged before its last line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read the journal {path}: {error.strerror}") from error
    history: History | None = None
    # What stands after the last newline was cut short by a kill, or is zeros after a power cut.
    rest = lines.pop().strip(b"\0")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if history is None:
                history = _read_head(entry)
            else:
                _read_entry(entry, history)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if history is None:
                raise InputError(
                    f"{path} is not a journal of zeroshot sort", "give the file that `sort` named"
                ) from error
            raise InputError(f"{path}: line {number} is damaged", "restore the journal from a backup") from error
    if history is None:
        if not _BEGINNING.startswith(rest[: len(_BEGINNING)]):
            raise InputError(f"{path} is not a journal of zeroshot sort", "give the file that `sort` named")
        return 0, History(path.parent.parent.resolve(), "0")  # killed before the first line was whole: nothing was done
    if (history.into / FOLDER).resolve() != path.parent.resolve():
        raise InputError(
            f"{path} is the journal of {history.into}, and not in {history.into / FOLDER}",
            "move the folder, or the journal, back to where it was",
        )
    return sum(len(line) + 1 for line in lines), history


def _read_head(entry: Any) -> History:
    into = Path(entry["into"])
    token = entry["token"]
    if (
        entry["format"] != _FORMAT
        or entry["version"] != _VERSION
        or not into.is_absolute()
        or not (isinstance(token, str) and token.isalnum())
    ):
        raise ValueError("not a journal")
    return History(into, token)


def _read_entry(entry: Any, history: History) -> None:
    if "begin" in entry:
        source = Path(entry["source"])
        if (Method(entry["method"]) is Method.EXTRACT) != bool(entry.get("member")):
            raise ValueError("a member is copied out")
        if not source.is_absolute() or ".." in source.parts:
            raise ValueError("not an absolute path")
        task = Task(
            int(entry["begin"]), Method(entry["method"]), source, _inside(entry["target"], history.into),
            int(entry["size"]), int(entry["mtime_ns"]), history.token, str(entry.get("member", "")),
        )  # fmt: skip
        history.entries[task.number] = Entry(task)
    elif "folder" in entry:
        history.folders.append(_inside(entry["folder"], history.into))
    elif "done" in entry:
        history.entries[entry["done"]].placed = Placed(int(entry["mtime_ns"]), str(entry["sha256"]))
    elif "failed" in entry:
        history.entries[entry["failed"]].settled = True
    elif "undoing" in entry:
        history.entries[entry["undoing"]].tried = True
    elif "undone" in entry:
        history.entries[entry["undone"]].settled = True
    elif "kept" not in entry:
        raise ValueError("unknown entry")


def _inside(text: str, into: Path) -> Path:
    """Return a journal's relative path as an absolute one; a journal names nothing outside its folder."""
    relative = PurePath(text)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError("outside the folder")
    return into / relative


def find_journals(into: Path) -> Iterator[Path]:
    """Yield a sorted folder's journals, in the order in which the runs began."""
    yield from sorted((into / FOLDER).glob("*.jsonl"), key=_place_in_time)


def _place_in_time(path: Path) -> tuple[str, int, str]:
    """Return what orders journals by their names: an undo writes to a journal, so its file's time says nothing."""
    found = _NAME.fullmatch(path.name)
    return (found[1], int(found[2] or 1), "") if found else ("", 0, path.name)


def find_open_journals(into: Path) -> list[Path]:
    """Return the journals of a sorted folder that still have something to take back, last run first."""
    found = []
    for path in find_journals(into):
        with Journal.open(path) as opened:
            if opened.history.open_entries:
                found.append(path)
    return found[::-1]
