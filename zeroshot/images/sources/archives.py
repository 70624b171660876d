"""Members of ``.tar`` and ``.zip`` archives as images of their own: listed in the archive's order, read one by one.

Nothing is ever unpacked to a path, so that no name in an archive decides where anything is written. A name that
several members have, a link, an encrypted or cut-off member is one failed image, never another image in its place.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import ImageError
from .byte_ranges import MAX_IMAGE_BYTES, Blob, BlobFile

_BLOCK = 512
_MARKS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
"""How the formats of programs that compress a tar begin."""

_MAX_HEADER = 1 << 20
"""A name or an extended header is some hundred bytes long."""


class Archive(Protocol):
    """An open archive; several threads may read it at once.

    Attributes:
        blob: What it is read from.
        damage: Why members may be missing at its end; empty for a whole one.
    """

    blob: Blob
    damage: str

    def names(self) -> Iterator[str]:
        """Yield the name of each member that is a file or a link, in order, repeated ones as often as they stand."""
        ...

    def read(self, member: str) -> bytes:
        """Return a member's content.

        Raises:
            ImageError: There is none that can be read.
        """
        ...


def check_size(size: int, limit: int = MAX_IMAGE_BYTES) -> None:
    """Refuse an image that is too large to be held in memory.

    Raises:
        ImageError: It is.
    """
    if size > limit:
        raise ImageError(f"{size:,} bytes is over the limit of {limit:,} for an image in an archive or a store")


def _unique(found: dict[str, Any], member: str) -> Any:
    entry = found.get(member)
    if entry is None:
        raise ImageError("the archive has no such member")
    if isinstance(entry, list):
        raise ImageError(f"{len(entry)} members of the archive have this name; which one is meant cannot be told")
    return entry


def _keep(found: dict[str, Any], name: str, entry: Any) -> None:
    before = found.get(name)
    if before is None:
        found[name] = entry
    elif isinstance(before, list):
        before.append(entry)
    else:
        found[name] = [before, entry]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member of a tar lies, or why it cannot be read."""

    start: int
    size: int
    problem: str = ""


def _compressed_by(head: bytes) -> str:
    """Return what program wrote a file that begins so; nothing for a tar."""
    return next((tool for tool, mark in _MARKS.items() if mark.match(head)), "")


class TarArchive:
    """An uncompressed tar, as webdataset writes them; a member is at one place of the file."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.damage = ""
        self._order: list[str] = []
        self._found: dict[str, Any] = {}
        links: list[tuple[str, str]] = []
        try:
            if tool := _compressed_by(blob.read(0, _BLOCK)):
                how = f"compressed by {tool} in spite of its name, and cannot be read from the middle"
                self.damage = f"{how}; `{tool} -dc` unpacks it"
                return
            with tarfile.open(fileobj=BlobFile(blob, _MAX_HEADER), mode="r:") as archive:
                while member := archive.next():
                    archive.members.clear()  # type: ignore[attr-defined]  # they would all be kept
                    self._add(member, links)
                self._check_end(archive.offset)
        except (tarfile.TarError, ImageError, ValueError, OSError, struct.error) as error:
            self.damage = f"damaged or cut short behind its first {len(self._order)} members: {_line(error)}"
        for name, target in links:  # a hard link has no content of its own; what it names stands before it
            there = self._found.get(target)
            if isinstance(self._found[name], _Place) and isinstance(there, _Place) and not there.problem:
                self._found[name] = there

    def _add(self, member: tarfile.TarInfo, links: list[tuple[str, str]]) -> None:
        problem = ""
        if member.issparse():
            problem = "is stored as a sparse file, which is not read from archives"
        elif member.islnk():
            problem = "is a link inside the archive to a member that is not there"
            if member.name not in self._found:
                links.append((member.name, member.linkname))
        elif member.issym():
            problem = "is a symbolic link inside the archive, which is not followed"
        elif member.isdir():
            return
        elif not member.isfile():
            problem = "is a device or a pipe, not a file"
        self._order.append(member.name)
        _keep(self._found, member.name, _Place(member.offset_data, member.size, problem))

    def _check_end(self, offset: int) -> None:
        """Tell an end that is meant from one that is not: Python's reader takes a damaged header for the end."""
        block = self.blob.read(offset, _BLOCK)
        if not block and self.blob.size:
            self.damage = "has no mark at its end: it may be cut short"
        elif block.strip(b"\0"):
            self.damage = f"damaged: at byte {offset:,} there is no header"

    def names(self) -> Iterator[str]:
        """Yield the members' names, as `Archive.names`."""
        return iter(self._order)

    def read(self, member: str) -> bytes:
        """Return a member's content, as `Archive.read`."""
        place = _unique(self._found, member)
        if place.problem:
            raise ImageError(place.problem)
        check_size(place.size)
        content = self.blob.read(place.start, place.size)
        if len(content) < place.size:
            raise ImageError(
                f"the archive is cut short: {len(content):,} of the image's {place.size:,} bytes are there"
            )
        return content


class ZipArchive:
    """A zip; what a member says of its size is not believed while it is unpacked."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.damage = ""
        self._order: list[str] = []
        self._found: dict[str, Any] = {}
        try:
            self._zip = zipfile.ZipFile(BlobFile(blob))
        except (zipfile.BadZipFile, ImageError, ValueError, OSError, NotImplementedError, struct.error) as error:
            self.damage = f"not a whole zip archive: {_line(error)}"
            return
        for member in self._zip.infolist():
            if not member.is_dir():
                self._order.append(member.filename)
                _keep(self._found, member.filename, member)

    def names(self) -> Iterator[str]:
        """Yield the members' names, as `Archive.names`."""
        return iter(self._order)

    def read(self, member: str) -> bytes:
        """Return a member's content, as `Archive.read`."""
        info = _unique(self._found, member)
        if info.flag_bits & 1:
            raise ImageError("is encrypted in its archive")
        if (info.external_attr >> 28) == 0xA:  # S_IFLNK of the Unix mode
            raise ImageError("is a symbolic link inside the archive, which is not followed")
        check_size(info.file_size)
        try:
            with self._zip.open(info) as stream:
                content = stream.read(MAX_IMAGE_BYTES + 1)
        except ImageError:
            raise
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, struct.error) as error:
            raise ImageError(f"damaged in its archive: {_line(error)}") from error
        except (NotImplementedError, RuntimeError) as error:
            raise ImageError(f"cannot be unpacked: {_line(error)}") from error
        check_size(len(content))
        return content


def _line(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", None) or error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"
