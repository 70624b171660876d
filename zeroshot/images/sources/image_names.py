"""What an image is called: ``a/b.jpg``, ``s3://bucket/b.jpg``, ``x.tar::b.jpg``. Names are only taken apart here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

SEPARATOR = "::"
"""Stands between an archive and the name of a member in it."""

ARCHIVE_SUFFIXES = (".tar", ".zip", ".parquet")
"""Endings of the archives whose members are images of their own."""

STORE_SCHEMES = ("s3", "gs", "az")
"""Object stores, which can be listed and written to."""

SCHEMES = (*STORE_SCHEMES, "https", "http")
"""What a name that is no path of this machine begins with, before ``://``."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SCHEME = re.compile(r"([a-z0-9]+)://", re.IGNORECASE)


def scheme_of(name: str) -> str:
    """Return ``s3`` for ``s3://...`` and so on; nothing for a path of this machine."""
    found = _SCHEME.match(name)
    scheme = found[1].lower() if found else ""
    return scheme if scheme in SCHEMES else ""


def is_archive(name: str) -> bool:
    """Whether a name ends as an archive does; a member of one does not."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_compressed_archive(name: str) -> bool:
    """Whether it is an archive whose members have no place of their own in it."""
    return name.lower().endswith(_COMPRESSED)


def join_member(archive: str, member: str) -> str:
    """Return what a member of an archive is called."""
    return f"{archive}{SEPARATOR}{member}"


def split_member(name: str) -> tuple[str, str] | None:
    """Take a member's name apart into archive and member; None for what is no member of an archive.

    ``::`` may stand in the names of folders, files and members too. On this machine the first split whose left side
    is a file counts; a file that has the whole name is that file unless there is such an archive.
    """
    if SEPARATOR not in name:
        return None
    splits = list(_splits(name))
    if not splits or scheme_of(name):
        return splits[0] if splits else None
    for archive, member in splits:
        if _is_file(archive):
            return archive, member
    return None if _is_file(name) else splits[0]


def name_listed(address: str) -> str:
    """Return what a listed object of a store is called.

    Where its address is that of a member of an archive too, nobody could tell which one is meant: it gets a name that
    is neither, and that is never read (see `is_ambiguous`).
    """
    return address + SEPARATOR if split_member(address) else address


def is_ambiguous(name: str) -> bool:
    """Say whether `name_listed` gave this name to an object that is not read."""
    return name.endswith(SEPARATOR) and bool(scheme_of(name))


def container(name: str) -> str:
    """Return what has to be there for a name to be read: the archive of a member, else the name itself."""
    parts = split_member(name)
    return parts[0] if parts else name


def _splits(name: str) -> Iterator[tuple[str, str]]:
    start = 0
    while (at := name.find(SEPARATOR, start)) >= 0:
        archive, member = name[:at], name[at + len(SEPARATOR) :]
        if is_archive(archive) and member:
            yield archive, member
        start = at + 1


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)  # noqa: PTH113 - False for a name that cannot be looked up
    except ValueError:
        return False
