"""Reads a journal line by line: its steps and their states."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError
from .step import Method, Placed, Task

FOLDER = ".zeroshot"
"""Folder inside the sorted one that holds the journals; hidden, so that no run looks for images there."""

FORMAT = "zeroshot-journal"
VERSION = 1
_BEGINNING = json.dumps({"format": FORMAT})[:-1].encode()


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
        entry["format"] != FORMAT
        or entry["version"] != VERSION
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
