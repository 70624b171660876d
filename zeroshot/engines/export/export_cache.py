"""The exports in the cache folder: listing and removing them.

They are the largest files in the cache, about as large as the weights, and can be made again.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...system import durable_files
from ...system.user_folders import exports_folder
from ..onnx_manifest import FORMAT, IMAGE_GRAPH, MANIFEST_NAME, TEXT_GRAPH, is_export

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class CachedExport:
    """One export in the cache, complete or not.

    Attributes:
        folder: Where it is.
        model: The model as it was named when it was exported; empty for what an interrupted export left.
        usable: It is of this version's format; says nothing about its health.
        size: Of its files, in bytes.
        days: Since its graphs were last read, as far as the file system keeps that, else since they were written.
        busy: A process is writing it now.
    """

    folder: Path
    model: str
    usable: bool
    size: int
    days: int
    busy: bool


def list_exports() -> list[CachedExport]:
    """Return all exports, complete or not, the largest first."""
    folder = exports_folder()
    children = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
    return sorted((_look_at(child) for child in children), key=lambda kept: (-kept.size, kept.folder))


def remove_exports() -> int:
    """Remove every export and leftovers of interrupted ones; exports that are being written stay.

    Returns:
        The bytes that were removed.

    Raises:
        OSError: One cannot be removed.
    """
    removed = 0
    for kept in list_exports():
        if kept.busy:
            continue
        if kept.folder.is_symlink():
            kept.folder.unlink()
            continue
        # First, so that nobody takes for an export what is left if this is interrupted.
        (kept.folder / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(kept.folder)
        removed += kept.size
    return removed


def put_in_place(work: Path, folder: Path) -> None:
    """Move a finished export to its place, and replace an older one with as short a gap as possible.

    Removing that one first would leave nothing for as long as a gigabyte takes to remove, and two processes that
    make the same export would remove it under each other.
    """
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with suppress(FileNotFoundError):
            folder.rename(old / folder.name)  # a name that is free: Windows renames over nothing
        try:
            work.rename(folder)
        except OSError:
            if not is_export(folder):  # else another process has made the same one meanwhile
                raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def marked_busy(folder: Path) -> Iterator[None]:
    """Keep a folder that is being written from being removed as a leftover; the mark ends with the process."""
    descriptor = _open(folder)
    try:
        if descriptor is not None:
            with suppress(durable_files.BusyError):  # marked by another process that writes the same
                durable_files.lock(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def open_to_others(folder: Path) -> None:
    """Give an export the permissions that new files get here, for a cache folder shared by several users.

    tempfile and onnx make what only its owner may read.
    """
    mode = stat.S_IMODE((folder / MANIFEST_NAME).stat().st_mode)
    rights = {path: mode for path in folder.iterdir() if not path.name.startswith(".")}  # no other's work in progress
    rights[folder] = mode | (mode & 0o444) >> 2  # who may read may look inside
    for path, wanted in rights.items():
        if stat.S_IMODE(path.stat().st_mode) != wanted:  # only its owner may set them
            path.chmod(wanted)


def _is_busy(folder: Path) -> bool:
    descriptor = _open(folder)
    if descriptor is None:
        return False
    try:
        durable_files.lock(descriptor)
    except durable_files.BusyError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(folder: Path) -> int | None:
    """Open a folder to lock it; None on systems without that (Windows refuses to remove what is open)."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if hasattr(os, "O_DIRECTORY") else None
    except OSError:
        return None


def _look_at(folder: Path) -> CachedExport:
    size, used = 0, 0.0
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except OSError:  # removed meanwhile
            continue
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if path.name in (IMAGE_GRAPH, TEXT_GRAPH):
            used = max(used, status.st_atime, status.st_mtime)
    model, usable = _read_name(folder)
    days = int(max(0.0, time.time() - used) // _DAY)
    return CachedExport(folder, model, usable, size, days, _is_busy(folder))


def _read_name(folder: Path) -> tuple[str, bool]:
    """Return the model's name and whether the manifest is of this format, from one of whatever format."""
    if folder.name.startswith("."):
        return "", False
    try:
        document = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        return str(document["spec"]["model"]), document["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return "", False
