"""Opens an image by its name, wherever it lies."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO

from ...errors import ImageError, ZeroshotError
from ...system.file_descriptors import check_descriptors
from .archive_cache import open_archive
from .byte_ranges import Stamp
from .image_names import is_ambiguous, is_archive, is_compressed_archive, scheme_of, split_member

MISSING = "no such file"
"""The error of a file that is not there."""

_MAX_LINE = 200


@contextmanager
def open_file(name: str) -> Iterator[IO[bytes]]:
    """Opens an image for reading: a file, a member of an archive, an object.

    Raises:
        ImageError: In one line, why it cannot be read; also of what goes wrong while it is.
    """
    name = os.fspath(name)
    if parts := split_member(name):
        if is_ambiguous(name):
            ending = PurePath(parts[0]).suffix
            raise ImageError(
                f"its key holds `{ending}::`, as the name of a member of an archive does: rename the object"
            )
        yield _filled(open_archive(parts[0]).read(parts[1]))
        return
    if scheme_of(name):
        from .objects import read_object

        _refuse_archive(name)
        yield _filled(read_object(name))
        return
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise ImageError("a folder, not an image")
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file")
            if status.st_size == 0:
                raise ImageError("the file is empty (0 bytes)")
            _refuse_archive(name)
            yield file
    except ZeroshotError:
        raise
    except FileNotFoundError as error:
        raise ImageError(MISSING) from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except IsADirectoryError as error:
        raise ImageError("a folder, not an image") from error
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise ImageError("not a regular file") from error  # a socket
        check_descriptors(error)
        raise ImageError(_one_line(error.strerror or str(error))) from error
    except ValueError as error:
        what = "the path holds a NUL character (--from0 reads NUL-separated lists)" if "\0" in name else str(error)
        raise ImageError(_one_line(what)) from error


def stamp_of(name: str, file: IO[bytes]) -> Stamp | None:
    """Return what tells whether an open image is the one that was read before; None where nothing does."""
    if parts := split_member(name):
        there = open_archive(parts[0]).blob.stamp
        return there and Stamp(file.seek(0, io.SEEK_END), there.modified, there.changed, there.inode)
    return None if scheme_of(name) else Stamp.of(os.fstat(file.fileno()))


def _filled(content: bytes) -> IO[bytes]:
    if not content:
        raise ImageError("the file is empty (0 bytes)")
    return io.BytesIO(content)


def _refuse_archive(name: str) -> None:
    """Say why an archive is opened as an image: it is compressed, or images at its end are missing.

    Raises:
        ImageError: It is an archive.
    """
    if is_compressed_archive(name):
        raise ImageError("a compressed tar cannot be read from the middle; unpack it, or store it as .tar")
    if is_archive(name):
        raise ImageError(open_archive(name).damage or "an archive, not an image")


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, as a FIFO would; what is not a regular file is refused once it is open."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _one_line(text: str) -> str:
    """Fold a message of several lines into one of bounded length."""
    folded = " ".join(text.split())
    return folded if len(folded) <= _MAX_LINE else folded[: _MAX_LINE - 1] + "…"
