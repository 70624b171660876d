"""Convert an image of any mode to 8-bit RGB, as a viewer would show it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

Values = npt.NDArray[np.float64]

_BAND_PIXELS = 1 << 17
"""Pixels that are converted at a time, where that takes many times their memory."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF 6.0
_STATED_RANGES = ((340, 341), (280, 281))  # SMinSampleValue and SMaxSampleValue, MinSampleValue and MaxSampleValue
_UNSIGNED = 1
_WHITE_IS_ZERO = 0


@dataclass(frozen=True, slots=True)
class GreyRange:
    """Which values of an image with more than 8 bits of grey are black and white.

    Attributes:
        low: What is black; None: the lowest value in use, up to which the image is stretched.
        high: What is white; None: the highest value in use.
        unsigned: Values of mode ``I`` are unsigned numbers that Pillow read as signed ones.
        inverted: ``low`` is white and ``high`` is black.
    """

    low: float | None = None
    high: float | None = None
    unsigned: bool = False
    inverted: bool = False


def is_tiff(image: Image.Image) -> TypeGuard[TiffImageFile]:
    """Whether Pillow opened an image as TIFF, or as a format that is one."""
    # It takes long to import, and most runs open no TIFF. While another thread imports it, it has no class yet.
    kind = getattr(sys.modules.get("PIL.TiffImagePlugin"), "TiffImageFile", None)
    return kind is not None and isinstance(image, kind)


def grey_range(image: Image.Image) -> GreyRange:
    """Decide which values of a grey image with more than 8 bits are black and white.

    - Unsigned greys of 9 to 16 bits (``BitsPerSample``; PNG, PPM, JPEG 2000): 0 and the largest number of those bits.
    - Signed 16-bit and all 32-bit integers have no agreed range: the one that the file states (``SMinSampleValue``
      and ``SMaxSampleValue``, else ``MinSampleValue`` and ``MaxSampleValue``), else from the lowest value in use to
      the highest. An image of one value is black.
    - Floating point: [0, 1] or [0, 255] where all values are in it, else as other wide values (see `to_rgb`).
    - ``PhotometricInterpretation`` 0 turns each of them round.
    """
    if not is_tiff(image):
        sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")  # Pillow opens some of them as I
        return GreyRange(0, 65535) if sixteen else GreyRange()
    tags = image.tag_v2
    unsigned = _first(tags.get(_SAMPLE_FORMAT), _UNSIGNED) == _UNSIGNED
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode.startswith("I;16"):
        return GreyRange(0, 2 ** min(16, int(_first(tags.get(_BITS), 16))) - 1, inverted=inverted)
    if image.mode == "I":
        for low_tag, high_tag in _STATED_RANGES:
            low, high = (_first(tags.get(tag), math.nan) for tag in (low_tag, high_tag))
            if low < high:
                return GreyRange(low, high, unsigned, inverted)
    return GreyRange(unsigned=unsigned, inverted=inverted)


def _first(value: Any, default: float) -> float:
    """Return a tag's number, or the first of several; the default for anything else."""
    one = value[0] if isinstance(value, tuple) and value else value
    try:
        return default if one is None else float(one)
    except (TypeError, ValueError, ZeroDivisionError):
        return default


def to_rgb(image: Image.Image, levels: GreyRange | None = None) -> Image.Image:
    """Convert any mode to RGB as a viewer would show it.

    - Greys of more than 8 bits are scaled by their range; Pillow's own conversion clips, and shows them white.
    - Transparency is laid on white; Pillow's own conversion drops it, and a black logo becomes a black square.
    - Palettes become colours before any resizing, which would otherwise take the nearest index.
    - Animated images give their first frame; CMYK, YCbCr, Lab and 1-bit are Pillow's conversions.

    Args:
        image: Decoded.
        levels: Which greys are black and white; None for what `grey_range` makes of the image.
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _scale_grey(image, levels or grey_range(image))
    if image.has_transparency_data:
        return _in_bands(image, _lay_on_white)
    return image.convert("RGB")


def _scale_grey(image: Image.Image, levels: GreyRange) -> Image.Image:
    def read(part: Image.Image) -> Values:
        values = np.asarray(part)
        if image.mode == "I" and levels.unsigned:
            values = values.view(np.uint32)
        return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)

    low, high = levels.low, levels.high
    if low is None or high is None:
        if image.mode == "F" and not any(np.isfinite(np.asarray(part)).any() for part in _bands(image)):
            raise ValueError("none of its values is a finite number")
        ranges = [(float(values.min()), float(values.max())) for values in map(read, _bands(image))]
        low, high = min(first for first, _ in ranges), max(last for _, last in ranges)
        if image.mode == "F" and low >= 0 and high <= 255:  # the two usual ranges of floating point
            low, high = 0.0, 1.0 if high <= 1 else 255.0
    clear = image.info.get("transparency")  # of a 16-bit PNG: the one value that is transparent

    def convert(part: Image.Image) -> Image.Image:
        values = read(part)
        grey = _grey((values - low) / max(high - low, 1e-12) * 255.0)
        if levels.inverted:
            grey = ImageOps.invert(grey)
        if isinstance(clear, int):
            grey.paste((255, 255, 255), mask=Image.fromarray(values == clear))
        return grey

    return _in_bands(image, convert)


def _lay_on_white(image: Image.Image) -> Image.Image:
    layered = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    page = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(page, layered).convert("RGB")


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield an image some rows at a time, from the top."""
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image some rows at a time, so that whatever is between takes little memory."""
    whole = Image.new("RGB", image.size)
    top = 0
    for band in _bands(image):
        whole.paste(convert(band), (0, top))
        top += band.height
    return whole


def _grey(values: Values) -> Image.Image:
    """Make an RGB image of grey values in [0, 255], shape ``(height, width)``."""
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
