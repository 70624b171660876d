"""Moves, copies, links or copies out one image; with `undo_image` all that changes image files.

Two rules make both safe to be killed between any two lines: an image's last copy is never removed, since what is taken
away was found, byte for byte, somewhere else first; and names and copies are those of `safe_copies`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from ..errors import ImageError
from ..images.sources.image_names import scheme_of
from ..images.sources.open_image import open_file
from ..system.durable_files import sync_folder
from .safe_copies import claim, copy, give_name
from .step import Method, Placed, PlacingError, Task


def place(task: Task) -> Placed:
    """Carry out one step.

    Raises:
        PlacingError: It was not done, and nothing is changed.
    """
    try:
        _check_unchanged(task)
        match task.method:
            case Method.HARD_LINK:
                os.link(task.source, task.target)
                return Placed(task.mtime_ns)
            case Method.SYMBOLIC_LINK:
                task.target.symlink_to(task.source)
                return Placed(task.target.lstat().st_mtime_ns)
            case Method.EXTRACT:
                with claim(task.target):
                    return _extract(task)
            case Method.COPY:
                with claim(task.target):
                    return copy(task, task.source, task.target)
            case Method.MOVE:
                with claim(task.target):
                    try:
                        task.source.replace(task.target)  # the claim; Windows renames over nothing
                        return Placed(task.mtime_ns)
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                    return _move_across(task)
    except FileExistsError as error:
        raise PlacingError(f"{task.target} appeared since the plan was made") from error
    except OSError as error:
        raise PlacingError(_explain(error, task)) from error


def _explain(error: OSError, task: Task) -> str:
    """Return what went wrong, and the way round it where a folder that images are moved out of is read-only."""
    reason = error.strerror or str(error)
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    if refused and task.method is Method.MOVE and not os.access(task.source.parent, os.W_OK):
        return f"{reason} ({task.source.parent} cannot be written to: change that, or let images be copied)"
    return reason


def _check_unchanged(task: Task) -> None:
    if task.member and scheme_of(task.member):
        return  # its content is all that a store tells
    status = task.source.lstat()
    if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (task.size, task.mtime_ns):
        raise PlacingError("changed while the run was going on")


def _extract(task: Task) -> Placed:
    """Copy an image out of an archive or a store, and flush it to the disk before it replaces the claim."""
    temporary = task.temporary(task.target)
    try:
        with open_file(task.member) as reader:
            content = reader.read()
        with temporary.open("wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
        return give_name(task.target, temporary, hashlib.sha256(content).hexdigest())
    except ImageError as error:
        raise PlacingError(error.message) from error
    finally:
        temporary.unlink(missing_ok=True)


def _move_across(task: Task) -> Placed:
    """Move between file systems: copy, verify, and only then remove."""
    placed = copy(task, task.source, task.target)
    try:
        _check_unchanged(task)
        task.source.unlink()
    except FileNotFoundError:
        pass  # another process removed it; only the copy is left
    except (PlacingError, OSError):
        task.target.unlink()
        raise
    sync_folder(task.source.parent)
    return placed
