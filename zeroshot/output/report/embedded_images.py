"""Thumbnails inside the page, small enough that thousands of them open in seconds."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import IO

from PIL import Image

from ...errors import ImageError
from ...features.pipeline import Pipeline
from ...images.decode import DecodeOptions, decode
from ...images.isolate import isolated
from ...images.sources.open_image import open_file

SIDE, SIDE_OF_MANY = 224, 144
"""Longest side in pixels: of up to `_MANY` thumbnails, and of more, so that a page of 5,000 stays under 30 MB."""

_MANY = 2500
_QUALITY = 40


def make_thumbnails(
    paths: Iterable[str],
    pipeline: Pipeline,
    on_progress: Callable[[int], None] = lambda _: None,
) -> dict[str, str]:
    """Return a ``data:`` address for each image; one that can no longer be read is left out.

    Args:
        paths: Images; repeated ones are read once.
        pipeline: How files are opened, and by how many workers.
        on_progress: Called with the number of thumbnails finished since the last call.
    """
    unique = list(dict.fromkeys(paths))
    thumbnails: dict[str, str] = {}
    side = SIDE_OF_MANY if len(unique) > _MANY else SIDE
    with (
        isolated(partial(_shrink, side, decode_options=pipeline.decode_options), pipeline.isolation) as shrink,
        ThreadPoolExecutor(max(1, pipeline.workers), thread_name_prefix="thumbnail") as pool,
    ):
        for path, address in zip(unique, pool.map(lambda path: _make(path, shrink), unique), strict=True):
            if address:
                thumbnails[path] = address
            on_progress(1)
    return thumbnails


def _make(path: str, shrink: Callable[[IO[bytes]], str]) -> str:
    try:
        with open_file(path) as file:
            return shrink(file)
    except ImageError:
        return ""


def _shrink(side: int, file: IO[bytes], decode_options: DecodeOptions) -> str:
    image = decode(file, decode_options)
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
