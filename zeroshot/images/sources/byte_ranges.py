"""Reads ranges of bytes of a file or an object; archives are read through these, wherever they are."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import ImageError

MAX_IMAGE_BYTES = 256 * 2**20
"""Largest image, compressed as it is, that is taken from an archive or a store: it has to be held in memory."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is the one that was read before, short of reading it again.

    Attributes:
        size: In bytes.
        modified: Nanoseconds since 1970.
        changed: Nanoseconds since 1970.
        inode: Its number in the file system.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @staticmethod
    def of(status: os.stat_result) -> Stamp:
        """Take it from a file's status."""
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Blob(Protocol):
    """A file or an object that is read in parts; several threads may do so at once."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    @property
    def stamp(self) -> Stamp | None:
        """What tells a change; None where nothing does."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from a place on: fewer where it ends before.

        Raises:
            ImageError: They cannot be had.
        """
        ...


class LocalBlob:
    """An open file; it is closed with the last reference to it, since another thread may be reading."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._descriptor = descriptor
        self.stamp: Stamp | None = Stamp.of(os.fstat(descriptor))
        self.size = self.stamp.size if self.stamp else 0

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from a place on, as `Blob.read`."""
        parts: list[bytes] = []
        try:
            while length > 0 and (part := os.pread(self._descriptor, length, start)):
                parts.append(part)
                start, length = start + len(part), length - len(part)
        except OSError as error:
            raise ImageError(f"the archive cannot be read: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


class BlobFile(io.RawIOBase):
    """A blob as a file object, for libraries that want one.

    Args:
        blob: What is read.
        most: Bytes that one call may ask for; a hostile header asks for any number of them. None: as many as there are.
    """

    def __init__(self, blob: Blob, most: int | None = None) -> None:
        self._blob = blob
        self._most = most
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any place can be gone to."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that follow."""
        rest = max(0, self._blob.size - self._at)
        length = rest if size is None or size < 0 else min(size, rest)
        if self._most is not None and length > self._most:
            raise ImageError("damaged: a header of the archive is too long")
        data = self._blob.read(self._at, length) if length else b""
        self._at += len(data)
        return data
