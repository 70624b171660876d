"""Describes one step of a sort: what is done to one image, and how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from ..errors import ZeroshotError


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
