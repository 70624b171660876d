"""Claims names and makes copies that appear whole; `place_image` and `undo_image` are made of these.

A name is claimed before it is used, by creating an empty file that must not have existed, so that nothing is
overwritten; no image is empty, so a claim is never taken for one. A copy gets its name only when it is whole and on
the disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..system.durable_files import hash_content, sync_folder
from .step import Placed, PlacingError, Task

_CHUNK = 1 << 20


@contextlib.contextmanager
def claim(path: Path) -> Iterator[None]:
    """Create an empty file that must not exist; remove it again if the block fails."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield
    except BaseException:
        release(path)
        raise


def release(path: Path) -> None:
    """Remove a claim, but nothing that has content."""
    if is_claim(path):
        path.unlink(missing_ok=True)


def is_claim(path: Path) -> bool:
    """Whether a path is an empty regular file, as `claim` leaves one when the process is killed."""
    status = lstat(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == 0


def lstat(path: Path) -> os.stat_result | None:
    """Return what the file system says of a path, not of what it links to; None where nothing is."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def copy(task: Task, source: Path, target: Path) -> Placed:
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
        return give_name(target, temporary, digest.hexdigest())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def give_name(target: Path, temporary: Path, sha256: str) -> Placed:
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


def remove(path: Path) -> None:
    """Remove a file, and have that on the disk."""
    path.unlink()
    sync_folder(path.parent)
