"""Hashes a weights file, checks it against its download, and says how to replace a damaged one."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from ..system.durable_files import hash_content


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal; files in the hub's cache carry it as their name.

    Raises:
        ModelError: It cannot be read.
    """
    return _downloaded_as(path) or _hash_content(path)


def check_download(path: Path) -> None:
    """Check that a file in the hub's cache is still what was downloaded; of others there is nothing to compare with.

    Raises:
        ModelError: It is not, or cannot be read.
    """
    expected = _downloaded_as(path)
    if expected and _hash_content(path) != expected:
        raise ModelError(f"{path.name} is damaged: it is no longer what was downloaded", how_to_replace(path))


def how_to_replace(path: Path) -> str:
    """Return the hint for a damaged weights file: the hub's cache keeps one until it is removed."""
    blob = path.resolve()
    if blob.parent.name == "blobs":
        return f"remove {blob}, then `zeroshot models pull` downloads it again"
    return "replace it by a good copy, or give another file"


def _downloaded_as(path: Path) -> str:
    """Return the SHA-256 by which the hub's cache names a file; empty for other files."""
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and len(blob.name) == 64 else ""


def _hash_content(path: Path) -> str:
    try:
        return hash_content(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "check the disk and the file's rights") from error
