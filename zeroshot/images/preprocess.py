"""Bring an image to a model's size, exactly as open_clip's own inference transform does.

Resizing is Pillow's on 8-bit values, which antialiases; tensor resizing without antialiasing differs from it by
8.8 grey levels on average. Scaling to [0, 1] and normalising are left to the engine, so that an image waiting
for its batch costs one byte a value instead of four.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..encoder import Interpolation, Pixels, Preprocessing, ResizeMode
from ..enums import Resampler

_FILTERS = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}

MAX_RESIZED_PIXELS = 1 << 24
"""Beyond this many pixels, only the part of a resized image that remains after cropping is computed.

A 1 x 10,000 strip whose short side becomes 224 would be 224 x 2,240,000. Below the limit the whole is resized
and then cropped as torchvision does, so that the result is equal to the last bit. Above it, it is equal within one
grey level, except where Pillow picks another order of its two passes and the first one overshoots black or white.
"""


def fit(image: Image.Image, how: Preprocessing, resampler: Resampler = Resampler.EXACT) -> Pixels:
    """Resize, crop or pad an RGB image to the model's rectangle.

    Args:
        image: To resize.
        how: The model's rectangle, filter and way.
        resampler: What resizes; images that become far larger than the rectangle are Pillow's in any case.

    Returns:
        Shape ``(height, width, 3)``, values in [0, 255].
    """
    height, width = how.size
    resampling = _FILTERS[how.interpolation]
    if how.resize_mode is ResizeMode.SQUASH:
        resized = _resize(image, (width, height), resampling, resampler)
        return np.asarray(resized, dtype=np.uint8)
    if how.resize_mode is ResizeMode.LONGEST:
        ratio = max(image.height / height, image.width / width)
        target = (max(1, round(image.width / ratio)), max(1, round(image.height / ratio)))
    elif height == width:
        target = _shortest_edge(image.size, height)
    else:
        # open_clip resizes for a rectangle with its default filter, whatever the configuration says.
        resampling = Image.Resampling.BICUBIC
        ratio = min(image.height / height, image.width / width)
        target = (round(image.width / ratio), round(image.height / ratio))
    if target[0] * target[1] <= MAX_RESIZED_PIXELS and target != image.size:
        image = _resize(image, target, resampling, resampler)
    return _resize_and_crop(image, target, how, resampling)


def _resize(
    image: Image.Image, size: tuple[int, int], resampling: Image.Resampling, resampler: Resampler
) -> Image.Image:
    if resampler is Resampler.EXACT:
        return image.resize(size, resampling)
    from .fast_resize import resize_fast

    return resize_fast(image, size, resampling)


def _shortest_edge(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Return the (width, height) whose short side is `edge`, truncating the long side as torchvision does."""
    width, height = size
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def _resize_and_crop(
    image: Image.Image, target: tuple[int, int], how: Preprocessing, resampling: Image.Resampling
) -> Pixels:
    """Resize to ``target`` (width, height) unless it was, then pad and cut the middle."""
    height, width = how.size
    pad_x, pad_y = max(0, width - target[0]), max(0, height - target[1])
    left = round((target[0] + pad_x - width) / 2.0)
    top = round((target[1] + pad_y - height) / 2.0)
    if target[0] * target[1] > MAX_RESIZED_PIXELS:
        across = _Span.of(left, min(width, target[0]), image.width, target[0])
        down = _Span.of(top, min(height, target[1]), image.height, target[1])
        near = image.crop((across.low, down.low, across.high, down.high))
        box = (across.begin, down.begin, across.end, down.end)
        resized = near.resize((across.length, down.length), resampling, box)
        left = top = 0
    else:
        resized = image
    if pad_x or pad_y:
        canvas = Image.new("RGB", (resized.width + pad_x, resized.height + pad_y), (how.fill_color,) * 3)
        canvas.paste(resized, (pad_x // 2, pad_y // 2))
        resized = canvas
    return np.asarray(resized.crop((left, top, left + width, top + height)), dtype=np.uint8)


class _Span(NamedTuple):
    """The source pixels of one side of the cropped part.

    Attributes:
        low: First pixel of the image that it depends on.
        high: Behind the last one.
        begin: Where it begins, counted from ``low``, in pixels of the image.
        end: Where it ends.
        length: Its length once resized.
    """

    low: int
    high: int
    begin: float
    end: float
    length: int

    @classmethod
    def of(cls, start: int, length: int, source: int, target: int) -> _Span:
        """Find the source pixels for ``length`` pixels from ``start`` on, when ``source`` is resized to ``target``."""
        scale = source / target
        begin, end = start * scale, min((start + length) * scale, source)
        # Bicubic reaches two (resized) pixels to each side. Pillow holds coordinates in single precision, which at
        # 500,000 is 1/32 of a pixel: hence the neighbourhood is cut out first.
        reach = math.ceil(3 * max(scale, 1))
        low, high = max(0, math.floor(begin) - reach), min(source, math.ceil(end) + reach)
        return cls(low, high, begin - low, end - low, length)


def normalise(pixels: Pixels, how: Preprocessing) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Scale to [0, 1], subtract the mean and divide by the deviation, in float32 as torchvision does.

    Args:
        pixels: Shape ``(n, height, width, 3)``.
        how: Whose mean and deviation.

    Returns:
        Shape ``(n, 3, height, width)``, contiguous.
    """
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    planes /= np.float32(255)
    planes -= np.asarray(how.mean, dtype=np.float32)[:, None, None]
    planes /= np.asarray(how.std, dtype=np.float32)[:, None, None]
    return planes
