"""Moves, copies or links one image, or takes that back; the only module that changes image files.

Three rules make it safe to be killed between any two lines. An image's last copy is never removed: what is taken
away was found, byte for byte, somewhere else first. A name is claimed before it is used, by creating an empty file
that must not have existed, so that nothing is overwritten; no image is empty, so a claim is never taken for one.
And a copy gets its name only when it is whole and on the disk.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ImageError, ZeroshotError
from ..images.sources.names import scheme_of
from ..images.sources.opening import open_file
from ..system.disk import hash_content, sync_folder
from .plan import read_content, same_content

_CHUNK = 1 << 20
_COARSE_NS = 2_000_000_000
"""FAT keeps times to 2 seconds."""


class Method(enum.StrEnum):
    """The file operation."""

    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    COPY = "copy"
    MOVE = "move"
    EXTRACT = "copy out"


class PlacingError(ZeroshotError):
    """An image that cannot be placed and stays where it is; it never ends a run."""


@dataclass(frozen=True, slots=True)
class Task:
    """One step as the journal holds it.

    Attributes:
        number: Counts from 1 within a journal.
        method: What is done.
        source: Absolute.
        target: Absolute; did not exist.
        size: Bytes of the image.
        mtime_ns: When it was last changed.
        token: Sets this run's temporary files apart.
        member: What an image in an archive or a store is opened by; its source is the archive, or no file at all.
    """

    number: int
    method: Method
    source: Path
    target: Path
    size: int
    mtime_ns: int
    token: str
    member: str = ""

    def temporary(self, beside: Path) -> Path:
        """Return where a copy is made before it gets its name."""
        return beside.with_name(f".zeroshot-{self.token}-{self.number}.part")


@dataclass(frozen=True, slots=True)
class Placed:
    """The file operation that was used for an image.

    Attributes:
        mtime_ns: Its time there; file systems round.
        sha256: Of the content, where it was read; empty otherwise.
    """

    mtime_ns: int
    sha256: str = ""


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
                with _claim(task.target):
                    return _extract(task)
            case Method.COPY:
                with _claim(task.target):
                    return _copy(task, task.source, task.target)
            case Method.MOVE:
                with _claim(task.target):
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
    if task.method is Method.MOVE and not os.access(task.source.parent, os.W_OK):
        return f"{reason} ({task.source.parent} cannot be written to: change that, or leave out --move)"
    return reason


def _check_unchanged(task: Task) -> None:
    if task.member and scheme_of(task.member):
        return  # its content is all that a store tells
    status = task.source.lstat()
    if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (task.size, task.mtime_ns):
        raise PlacingError("changed while the run was going on")


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[None]:
    """Create an empty file that must not exist; remove it again if the block fails."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield
    except BaseException:
        _release(path)
        raise


def _release(path: Path) -> None:
    """Remove a claim, but nothing that has content."""
    if is_claim(path):
        path.unlink(missing_ok=True)


def is_claim(path: Path) -> bool:
    """Whether a path is an empty regular file, as `_claim` leaves one when the process is killed."""
    status = _lstat(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == 0


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _copy(task: Task, source: Path, target: Path) -> Placed:
    """Copy with times and permissions, and flush it to the disk before it replaces the claim."""
    temporary = task.temporary(target)
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            digest, before = hashlib.sha256(), os.fstat(reader.fileno())
            while block := reader.read(_CHUNK):
                digest.update(block)
                writer.write(block)
            writer.flush()
            after = os.fstat(reader.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise PlacingError("changed while it was copied")
            with contextlib.suppress(OSError, AttributeError):  # only root can change owners, and Windows has none
                os.chown(writer.fileno(), after.st_uid, after.st_gid)
            shutil.copystat(source, temporary)
            os.fsync(writer.fileno())
        return _give_name(target, temporary, digest.hexdigest())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        return _give_name(task.target, temporary, hashlib.sha256(content).hexdigest())
    except ImageError as error:
        raise PlacingError(error.message) from error
    finally:
        temporary.unlink(missing_ok=True)


def _give_name(target: Path, temporary: Path, sha256: str) -> Placed:
    """Let a copy that is on the disk replace its claim, once what is read back is what was written."""
    found = hash_content(temporary)
    if found != sha256:
        raise PlacingError("the copy read back differs from the image; is the disk failing?")
    if not is_claim(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    mtime = temporary.stat().st_mtime_ns
    temporary.replace(target)
    sync_folder(target.parent)
    return Placed(mtime, found)


def _move_across(task: Task) -> Placed:
    """Move between file systems: copy, verify, and only then remove."""
    placed = _copy(task, task.source, task.target)
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


def _remove(path: Path) -> None:
    path.unlink()
    sync_folder(path.parent)


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
            _release(task.source)
        undo = _plan_return(task, placed, tried=tried) if task.method is Method.MOVE else _plan_removal(task, placed)
        if dry:
            _check_folders(task)
            return
        undo()
        for path in (task.source, task.target):
            task.temporary(path).unlink(missing_ok=True)
    except OSError as error:
        raise PlacingError(error.strerror or str(error)) from error


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
    status = _lstat(task.target)
    if status is None:
        return _nothing
    if task.method is Method.SYMBOLIC_LINK:
        if not stat.S_ISLNK(status.st_mode) or task.target.readlink() != task.source:
            raise PlacingError(f"{task.target} was replaced since")
    elif task.method is Method.HARD_LINK:
        source = _lstat(task.source)
        if source is None or (source.st_dev, source.st_ino) != (status.st_dev, status.st_ino):
            raise PlacingError(f"{task.target} stays: {task.source} is gone or was replaced since")
    elif not (is_claim(task.target) and placed is None) and not _is_copy(task):
        raise PlacingError(f"{task.target} stays: it or {task.member or task.source} changed or went since")
    return partial(_remove, task.target)


def _is_copy(task: Task) -> bool:
    """Whether the target holds what the source, or the member of an archive or a store, still holds."""
    if task.method is not Method.EXTRACT:
        return same_content(task.source, task.target)
    content = read_content(task.target)
    return content is not None and content == read_content(task.member)


def _plan_return(task: Task, placed: Placed | None, *, tried: bool) -> Callable[[], None]:
    """Return what brings a moved image back to where it was, with its times."""
    at_target, at_source = _lstat(task.target), _lstat(task.source)
    if tried and is_claim(task.source):
        at_source = None
    if at_source and (at_target is None or (placed is None and is_claim(task.target))):
        if (at_source.st_size, at_source.st_mtime_ns) != (task.size, task.mtime_ns) and placed:
            raise PlacingError(f"{task.target} is gone, and {task.source} is another file")
        return partial(_release, task.target)  # it never got as far as moving, or it is back already
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
    _remove(task.target)


def _move_back(task: Task, placed: Placed | None) -> None:
    task.source.parent.mkdir(parents=True, exist_ok=True)
    with _claim(task.source):
        try:
            task.target.replace(task.source)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            back = _copy(task, task.target, task.source)
            _restore_time(task)
            if placed and placed.sha256 and back.sha256 != placed.sha256:
                task.source.unlink()
                raise PlacingError(f"{task.target} changed since") from error
            _remove(task.target)


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
