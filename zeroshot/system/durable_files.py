"""Files: their hash, locks, and writes that survive a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which refuses to rename or remove a file that another process has open
    fcntl = None  # type: ignore[assignment]


BINARY = getattr(os, "O_BINARY", 0)
"""Flag of `os.open` that keeps Windows from changing line ends."""


class BusyError(Exception):
    """Another process holds the lock."""


def hash_content(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed or the process ends; without effect where a file system has no locks.

    Raises:
        BusyError: Another process holds it.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError from error
    except OSError:
        return


@contextmanager
def kept_locked(descriptor: int) -> Iterator[None]:
    """Keep an open file's lock to the end of the block, even if the file is closed in it."""
    if fcntl is None:  # there is no lock, and nothing that is open could be renamed
        yield
        return
    same = os.dup(descriptor)
    try:
        yield
    finally:
        os.close(same)


def open_locked(path: Path) -> int:
    """Open a file for reading and writing, made if it is not there, and lock it; its content stays.

    Returns:
        The descriptor of the file that stands under this name now: one that was renamed or removed while the lock
        was waited for is let go.

    Raises:
        BusyError: Another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | BINARY, 0o666)
        try:
            lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk; without effect where folders cannot be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
