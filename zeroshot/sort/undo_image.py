"""Takes back what was done to one image, whether it was finished, cut short or half undone before."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .plan import read_content, same_content
from .safe_copies import claim, copy, is_claim, lstat, release, remove
from .step import Method, Placed, PlacingError, Task

_COARSE_NS = 2_000_000_000
"""FAT keeps times to 2 seconds."""


def take_back(task: Task, placed: Placed | None, *, tried: bool = False, dry: bool = False) -> None:
    """Undo one step, whether it was finished, was cut short, or was half undone before.

    Args:
        task: As the journal has it.
        placed: How it ended; None where the journal does not say.
        tried: Whether an earlier undo began with it, which may have left a claim at the source.
        dry: Find out whether it can be undone, and change nothing.

    Raises:
        PlacingError: It is not undone, and why; nothing is changed then.
    """
    try:
        if tried and not dry and task.method is Method.MOVE:
            release(task.source)
        undo = _plan_return(task, placed, tried=tried) if task.method is Method.MOVE else _plan_removal(task, placed)
        if dry:
            _check_folders(task)
            return
        undo()
    except OSError as error:
        raise PlacingError(f"{task.target} stays: {error.strerror or error}") from error
    for path in (task.source, task.target):
        with suppress(OSError):  # the step is undone; a read-only source holds no copy that was cut short
            task.temporary(path).unlink(missing_ok=True)


def _check_folders(task: Task) -> None:
    """Refuse what would fail, because a folder that changes cannot be written to."""
    changed = [task.target.parent] if os.path.lexists(task.target) else []
    changed += [task.source.parent] if task.method is Method.MOVE else []
    for folder in changed:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise PlacingError(f"{task.target} stays: {there} cannot be written to")


def _nothing() -> None:
    """Leave everything as it is."""


def _plan_removal(task: Task, placed: Placed | None) -> Callable[[], None]:
    """Return what takes a link or a copy away, if the image itself is still at its source."""
    status = lstat(task.target)
    if status is None:
        return _nothing
    if task.method is Method.SYMBOLIC_LINK:
        if not stat.S_ISLNK(status.st_mode) or task.target.readlink() != task.source:
            raise PlacingError(f"{task.target} was replaced since")
    elif task.method is Method.HARD_LINK:
        source = lstat(task.source)
        if source is None or (source.st_dev, source.st_ino) != (status.st_dev, status.st_ino):
            raise PlacingError(f"{task.target} stays: {task.source} is gone or was replaced since")
    elif not (is_claim(task.target) and placed is None) and not _is_copy(task):
        raise PlacingError(f"{task.target} stays: it or {task.member or task.source} changed or went since")
    return partial(remove, task.target)


def _is_copy(task: Task) -> bool:
    """Whether the target holds what the source, or the member of an archive or a store, still holds."""
    if task.method is not Method.EXTRACT:
        return same_content(task.source, task.target)
    content = read_content(task.target)
    return content is not None and content == read_content(task.member)


def _plan_return(task: Task, placed: Placed | None, *, tried: bool) -> Callable[[], None]:
    """Return what brings a moved image back to where it was, with its times."""
    at_target, at_source = lstat(task.target), lstat(task.source)
    if tried and is_claim(task.source):
        at_source = None
    if at_source and (at_target is None or (placed is None and is_claim(task.target))):
        if (at_source.st_size, at_source.st_mtime_ns) != (task.size, task.mtime_ns) and placed:
            raise PlacingError(f"{task.target} is gone, and {task.source} is another file")
        return partial(release, task.target)  # it never got as far as moving, or it is back already
    if at_target is None:
        raise PlacingError(f"{task.target} is gone")
    if not _is_as(task, placed, at_target):
        raise PlacingError(f"{task.target} changed since")
    if not at_source:
        return partial(_move_back, task, placed)
    # Killed between file systems, after the copy and before the removal, the image is in both places.
    if not same_content(task.source, task.target):
        raise PlacingError(f"{task.source} is taken by another file; {task.target} stays")
    return partial(_keep_source, task)


def _keep_source(task: Task) -> None:
    _restore_time(task)
    remove(task.target)


def _move_back(task: Task, placed: Placed | None) -> None:
    task.source.parent.mkdir(parents=True, exist_ok=True)
    with claim(task.source):
        try:
            task.target.replace(task.source)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            back = copy(task, task.target, task.source)
            _restore_time(task)
            if placed and placed.sha256 and back.sha256 != placed.sha256:
                task.source.unlink()
                raise PlacingError(f"{task.target} changed since") from error
            remove(task.target)


def _restore_time(task: Task) -> None:
    """Give an image the time that it had, where a file system in between has rounded it."""
    status = task.source.stat()
    if status.st_mtime_ns != task.mtime_ns:
        os.utime(task.source, ns=(status.st_atime_ns, task.mtime_ns))


def _is_as(task: Task, placed: Placed | None, status: os.stat_result) -> bool:
    """Whether a file at the target is what was put there, by size and time."""
    if not stat.S_ISREG(status.st_mode) or status.st_size != task.size:
        return False
    if placed:
        return status.st_mtime_ns == placed.mtime_ns
    return abs(status.st_mtime_ns - task.mtime_ns) <= _COARSE_NS
