"""Reads images into batches of pixels in one process, and encodes such batches in another."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import numpy as np

from ..encoder import Encoder, Pixels
from ..errors import ImageError
from ..features.pipeline import Encoded, encode_pixels, failing_softly
from ..images.sources.image_names import scheme_of, split_member
from ..images.sources.open_image import open_file

Source = str | bytes | ImageError
"""An image's name, its content where that was read already, or why it could not be."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Images that were read.

    Attributes:
        pixels: Of those that could be, shape ``(n_read, height, width, 3)``.
        errors: Why the others could not, by their place in the batch.
    """

    pixels: Pixels
    errors: dict[int, str]


def find_sources(names: Sequence[str]) -> list[Source]:
    """Read the members of archives in stores, which every process would else fetch whole; leave other names as given.

    Raises:
        ZeroshotError: Something else than an image is at fault.
    """
    return [_content(name) if scheme_of(name) and split_member(name) else name for name in names]


def _content(name: str) -> Source:
    try:
        with open_file(name) as file:
            return file.read()
    except ImageError as error:
        return error


def read_batch(
    sources: Sequence[Source], read: Callable[[IO[bytes]], Pixels], shape: tuple[int, ...], workers: int
) -> ReadBatch:
    """Read images, each of which is one row or one reason.

    Args:
        sources: What to read.
        read: Makes pixels of an open file.
        shape: Of an image's pixels, ``(height, width, 3)``.
        workers: Threads.
    """
    with ThreadPoolExecutor(workers) as pool:
        made = list((pool.map if workers > 1 else map)(lambda source: _read(source, read), sources))
    rows = [item for item in made if not isinstance(item, str)]
    errors = {place: item for place, item in enumerate(made) if isinstance(item, str)}
    return ReadBatch(np.stack(rows) if rows else np.zeros((0, *shape), dtype=np.uint8), errors)


def _read(source: Source, read: Callable[[IO[bytes]], Pixels]) -> Pixels | str:
    with failing_softly() as failed:
        if isinstance(source, ImageError):
            raise source
        if isinstance(source, bytes):
            return read(io.BytesIO(source))
        with open_file(source) as file:
            return read(file)
    return failed[0]


def encode_read(encoder: Encoder, names: Sequence[str], batch: ReadBatch, batch_size: int) -> list[Encoded]:
    """Encode what was read of a batch; the encoder sees a full one, as with `Pipeline.fixed_batches`."""
    rows = iter(batch.pixels)
    images: list[tuple[str, Pixels | str]] = [
        (name, batch.errors[place] if place in batch.errors else next(rows)) for place, name in enumerate(names)
    ]
    return encode_pixels(encoder, images, batch_size)
