"""An image as the pipeline opens it."""

from __future__ import annotations

from PIL import Image

from zeroshot.images.decode import DecodeOptions, decode
from zeroshot.images.sources.open_image import open_file


def open_image(path: str, how: DecodeOptions) -> Image.Image:
    """Decode one image, wherever it lies, to an upright 8-bit RGB image; raises as `decode`."""
    with open_file(path) as file:
        return decode(file, how)
