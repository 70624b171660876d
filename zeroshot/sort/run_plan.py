"""Carry out a plan, journal first, and undo one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..enums import Placement
from ..errors import InputError
from ..system.durable_files import sync_folder
from .journal import Journal, find_journals
from .journal_reader import read_history
from .place_image import place
from .plan import Step
from .step import Method, PlacingError, Task
from .undo_image import take_back

_METHODS = {Placement.LINK: Method.HARD_LINK, Placement.COPY: Method.COPY, Placement.MOVE: Method.MOVE}
_NO_HARD_LINK = (
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS
)  # fmt: skip
"""What says that this file system, or this pair of them, has no hard links for an image."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one step.

    Attributes:
        step: As planned.
        method: What was done; None if nothing was.
        reason: Why nothing was; empty otherwise.
    """

    step: Step
    method: Method | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Undone:
    """The outcome of undoing one step.

    Attributes:
        task: As the journal has it.
        reason: Why it is not undone; empty if it is.
    """

    task: Task
    reason: str = ""


def carry_out(steps: Iterable[Step], journal: Journal) -> Iterator[Outcome]:
    """Carry out each step and yield what became of it; a step that fails leaves its image where it is.

    Raises:
        OutputError: The journal cannot be written; no step happens without it.
    """
    for number, step in enumerate(steps, 1):
        try:
            _make_folder(step.target.parent, journal)
        except OSError as error:
            yield Outcome(step, None, f"cannot make {step.target.parent}: {error.strerror}")
            continue
        method = Method.EXTRACT if step.member else _METHODS[step.placement]
        try:
            try:
                _carry_out_one(step, number, method, journal)
            except PlacingError as error:
                if method is not Method.HARD_LINK or getattr(error.__cause__, "errno", None) not in _NO_HARD_LINK:
                    raise
                method = Method.SYMBOLIC_LINK
                _carry_out_one(step, number, method, journal)
        except PlacingError as error:
            journal.fail(number, error.message)
            yield Outcome(step, None, error.message)
            continue
        yield Outcome(step, method)


def _carry_out_one(step: Step, number: int, method: Method, journal: Journal) -> None:
    where = (step.source, step.target, step.size, step.mtime_ns)
    task = Task(number, method, *where, journal.history.token, step.member)
    journal.announce(task)
    journal.finish(number, place(task))


def _make_folder(folder: Path, journal: Journal) -> None:
    if not folder.is_dir():
        journal.announce_folder(folder)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)  # before an image's only copy may lie in it


def undo(journal: Journal, *, dry: bool = False) -> Iterator[Undone]:
    """Take back every step of a journal, last first, and remove the folders that it made and that are empty.

    Args:
        journal: Of the run.
        dry: Find out what can be taken back, and change nothing.

    Raises:
        OutputError: The journal cannot be written.
    """
    moved_on = _find_moved_on(journal)
    for entry in journal.history.open_entries:
        yield _undo_one(journal, entry.task.number, moved_on, dry=dry)
    for folder in reversed(journal.history.folders):
        with contextlib.suppress(OSError):  # it holds something else, or is gone
            if not dry:
                folder.rmdir()


def is_stuck(journal: Journal) -> bool:
    """Whether an earlier undo left all the steps that are there, so that this one can hardly do more."""
    return all(entry.tried for entry in journal.history.open_entries)


def _find_moved_on(journal: Journal) -> dict[Path, Path]:
    """Return the journals of the runs that moved what others had placed in the same folder, by where that was."""
    found: dict[Path, Path] = {}
    for path in find_journals(journal.history.into):
        if path.name != journal.path.name:
            with contextlib.suppress(InputError):
                entries = read_history(path)[1].open_entries
                found |= {entry.task.source: path for entry in entries if entry.task.method is Method.MOVE}
    return found


def _undo_one(journal: Journal, number: int, moved_on: Mapping[Path, Path], *, dry: bool = False) -> Undone:
    entry = journal.history.entries[number]
    tried = entry.tried  # by an earlier undo, which may have left a claim
    if not dry:
        journal.begin_undo(number)
    try:
        if entry.task.target in moved_on and not os.path.lexists(entry.task.target):
            later = moved_on[entry.task.target]
            raise PlacingError(f"{entry.task.target} was moved on by another run: take back {later} first")
        take_back(entry.task, entry.placed, tried=tried, dry=dry)
    except PlacingError as error:
        if not dry:
            journal.keep(number, error.message)
        return Undone(entry.task, error.message)
    if not dry:
        journal.finish_undo(number)
    return Undone(entry.task)


def settle_earlier(into: Path) -> list[str]:
    """Undo steps of earlier runs into a folder that were killed half way.

    Returns:
        A line for each journal that has one, or that cannot be read.
    """
    notes: list[str] = []
    for path in find_journals(into):
        try:
            with Journal.open(path) as journal:
                cut_short = [entry for entry in journal.history.open_entries if entry.placed is None]
                for entry in cut_short:
                    outcome = _undo_one(journal, entry.task.number, {})
                    if outcome.reason:
                        notes.append(f"{entry.task.source}: an earlier run was interrupted there: {outcome.reason}")
                if cut_short:
                    notes.append(f"an earlier run was interrupted; `zeroshot undo {path}` takes back what it did")
        except InputError as error:
            notes.append(error.message)
    return notes
