"""Encodes images of any kind in the order given: paths through the pipeline, images in memory beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..encoder import Encoder, Pixels
from ..errors import ImageError, InputError
from ..images.decode import DecodeOptions, decode, upright_rgb
from ..images.paths import find_images
from ..images.preprocess import fit
from .pipeline import Encoded, Pipeline, checked, encode_batches

ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path of a file or folder, an encoded file's bytes, a PIL image, or an array ``(height, width[, channels])``."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_EXPECTED = "expected (height, width) or (height, width, channels) with 1, 3 or 4 channels"


def as_images(given: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[str, str | bytes | Image.Image]]:
    """Yield each image with its name: its path, or its place among those given, such as ``images[3]``.

    Args:
        given: One image or several. A folder stands for the images below it, and an array of four dimensions
            ``(n, height, width, channels)`` for a batch.

    Raises:
        InputError: One is of another type, or an array of another shape or type; the message names it.
    """
    if isinstance(given, (str, bytes, os.PathLike, Image.Image)):
        given = [given]
    elif isinstance(given, np.ndarray):
        given = given if given.ndim == 4 else [given]
    elif not isinstance(given, Iterable):
        raise InputError(f"images: a {type(given).__name__}", "give paths, bytes, PIL images or numpy arrays")
    for index, image in enumerate(given):
        name = f"images[{index}]"
        if isinstance(image, (str, os.PathLike)):
            for path in find_images([os.fspath(image)]):
                yield path, path
        elif isinstance(image, np.ndarray):
            yield name, _from_array(image, name)
        elif isinstance(image, (bytes, Image.Image)):
            yield name, image
        else:
            raise InputError(f"{name} is a {type(image).__name__}", "give paths, bytes, PIL images or numpy arrays")


def _from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    what = f"{name} has the shape {array.shape} and type {array.dtype}"
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in _MODES or 0 in array.shape:
        hint = "numpy.moveaxis(array, 0, -1) moves channels to the end" if array.shape[:1] in ((3,), (4,)) else ""
        raise InputError(f"{what}; {_EXPECTED}", hint)
    if array.dtype != np.uint8:
        raise InputError(f"{what}; expected uint8", "(255 * array).round().astype('uint8') for values from 0 to 1")
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and channels == 1 else array))


def encode_images(
    encoder: Encoder, images: ImageLike | Iterable[ImageLike], pipeline: Pipeline = Pipeline()
) -> Iterator[list[Encoded]]:
    """Yield images of any kind, encoded, in order, in lists of at most a batch's size.

    Those in memory are neither looked up in the cache nor stored there.

    Args:
        encoder: The model.
        images: See `as_images`.
        pipeline: How images are read.

    Raises:
        InputError: One is of another type or shape.
    """
    for in_memory, group in groupby(as_images(images), key=lambda named: not isinstance(named[1], str)):
        if in_memory:
            yield from _encode_in_memory(encoder, group, pipeline)
        else:
            yield from encode_batches(encoder, (path for path, _ in group), pipeline)


def _encode_in_memory(
    encoder: Encoder, named: Iterator[tuple[str, Any]], pipeline: Pipeline
) -> Iterator[list[Encoded]]:
    how = pipeline.decode_options

    def prepare(image: bytes | Image.Image) -> Pixels | str:
        try:
            return fit(_decode(image, how), encoder.spec.preprocessing, how.resize)
        except ImageError as error:
            return error.message

    with ThreadPoolExecutor(max(1, pipeline.workers), thread_name_prefix="decode") as pool:
        while batch := list(islice(named, pipeline.batch_size)):
            prepared = list(pool.map(prepare, (image for _, image in batch)))
            pixels = [item for item in prepared if not isinstance(item, str)]
            rows = iter(encoder.encode_images(np.stack(pixels)) if pixels else ())
            yield [
                Encoded(name, None, item) if isinstance(item, str) else checked(name, next(rows))
                for (name, _), item in zip(batch, prepared, strict=True)
            ]


def _decode(image: bytes | Image.Image, how: DecodeOptions) -> Image.Image:
    if isinstance(image, bytes):
        if not image:
            raise ImageError("the file is empty (0 bytes)")
        return decode(io.BytesIO(image), how)
    try:
        return upright_rgb(image, how)
    except Exception as error:  # an image that was opened and not loaded may be damaged in any way
        raise ImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
