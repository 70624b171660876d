"""Keeps archives open for readers of their members: each is listed once, and only a few stay open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

from ...errors import ImageError
from ...system.file_descriptors import check_descriptors
from .byte_ranges import Blob, LocalBlob, Stamp
from .image_names import scheme_of

if TYPE_CHECKING:
    from .archives import Archive

_OPEN = 4
"""Archives that stay open; images come in order, so that more than one is only wanted at its end (see `keep_open`)."""


def _kinds() -> dict[str, Callable[[Blob], Archive]]:
    """Return what opens an archive, by its ending; imported for the first one, since most runs open none."""
    from .archives import TarArchive, ZipArchive
    from .parquet import ParquetArchive

    return {".tar": TarArchive, ".zip": ZipArchive, ".parquet": ParquetArchive}


class _Slot:
    """One archive's place, which threads that want it wait at while the first of them opens it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.archive: Archive | None = None


_slots: OrderedDict[str, _Slot] = OrderedDict()
_lock = threading.Lock()
_open = _OPEN


def keep_open(count: int) -> None:
    """Let more archives stay open, for who reads images in no order."""
    global _open
    _open = count


def open_archive(name: str) -> Archive:
    """Return an archive, open and listed; a file that has changed since is listed anew.

    Raises:
        ImageError: It cannot be read.
        InputError: A package that reads it is missing.
    """
    with _lock:
        slot = _slots.setdefault(name, _Slot())
        _slots.move_to_end(name)
        while len(_slots) > _open:
            _slots.popitem(last=False)  # what is read from it at this moment stays open until that is done
    with slot.lock:
        remote = scheme_of(name)
        if slot.archive is not None and (remote or slot.archive.blob.stamp == _stamp(name)):
            return slot.archive
        blob = _open_remote(name) if remote else open_local(name)
        slot.archive = _kinds()[PurePath(name).suffix.lower()](blob)
        return slot.archive


def open_local(path: str) -> LocalBlob:
    """Open a file for reading at places.

    Raises:
        ImageError: It cannot be opened, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except (OSError, ValueError) as error:
        check_descriptors(error)
        raise ImageError(getattr(error, "strerror", None) or str(error)) from error
    blob = LocalBlob(descriptor)
    if not os.path.isfile(path):  # noqa: PTH113
        raise ImageError("not a regular file")
    return blob


def _open_remote(name: str) -> Blob:
    from .objects import open_object

    return open_object(name, whole=name.lower().endswith(".tar"))


def _stamp(path: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path))  # noqa: PTH116
    except OSError:
        return None
