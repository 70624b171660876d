"""Cache keys: an image's content or a label's prompts, the model, and how images were read."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..encoder import EncoderSpec
from ..enums import Resampler
from ..images.decode import DEFAULT_MAX_PIXELS, DecodeOptions
from ..images.sources.byte_ranges import Stamp
from ..images.sources.image_names import join_member, split_member

_TICK = 2_000_000_000  # nanoseconds
State = tuple[bytes, int, int, int, int]
"""A `FileState` as plain numbers, for many of them: path, size, modified, changed, inode."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's identity without reading it: path, inode, size and times."""

    path: bytes
    size: int
    modified: int
    changed: int
    inode: int

    def settled(self) -> bool:
        """Whether its times are older than the coarsest clock of a file system (FAT's: 2 s).

        A file written to again within one tick would look like the one that was read.
        """
        now = time.time_ns()
        return not any(0 <= now - stamp < _TICK for stamp in (self.modified, self.changed))

    @staticmethod
    def of(name: str, stamp: Stamp) -> FileState:
        """Take it from an image's stamp; the path is made absolute, and of a member that of its archive."""
        path, member = split_member(name) or (name, "")
        absolute = os.path.abspath(os.fsencode(path))  # noqa: PTH100 (bytes, and links stay as named)
        if member:
            absolute += os.fsencode(join_member("", member))
        numbers = (stamp.size, stamp.modified, stamp.changed, stamp.inode)
        return FileState(absolute, *(signed(number) for number in numbers))


def signed(number: int) -> int:
    """Fold a number into SQLite's 64 bits: inodes may use all of them, and nanoseconds end with the year 2262."""
    return (number + 2**63) % 2**64 - 2**63


def image_key(spec: EncoderSpec, how: DecodeOptions, made: bytes) -> bytes:
    """Return the key of a model with a way of opening images.

    Args:
        spec: The model.
        how: How files are opened. A limit of pixels that is not the default changes no feature, but what has one: an
            image beyond it must fail with a cache as it does without.
        made: What the installed libraries make of an image, see `decoder_fingerprint.measure`.
    """
    limit = None if how.max_pixels == DEFAULT_MAX_PIXELS else how.max_pixels
    decisive = [spec.fingerprint, how.exif, how.draft, limit, made.hex()]
    if how.resize is not Resampler.EXACT:
        from ..images.fast_resize import version_of

        decisive += [str(how.resize), version_of(how.resize)]
    return hashlib.sha256(json.dumps(decisive).encode()).digest()


def text_key(spec: EncoderSpec) -> bytes:
    """Return the key of a model's text tower."""
    return hashlib.sha256(f"{spec.fingerprint} text".encode()).digest()


def hash_prompts(prompts: Sequence[str]) -> bytes:
    """Return the key of a label: what its prompts are, in order."""
    return hashlib.sha256(json.dumps(list(prompts)).encode()).digest()
