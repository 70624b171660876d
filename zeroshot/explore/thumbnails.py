"""Images made small for the page: lazily, a few at a time, and kept within bounds."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

from PIL import ExifTags, Image

from ..errors import ImageError, ResourceError
from ..features.pipeline import Pipeline
from ..images.decode import DecodeOptions, decode
from ..images.isolate import isolated
from ..images.sources.open_image import open_file

SMALL, LARGE = 288, 2048
"""Longest side in pixels, of a tile and of an image opened large."""

_KEPT_BYTES = 96_000_000
_KEPT_LARGE = 6
_MOST_WAITING = 2000
"""Requests that may wait for an image; a page shows at most some hundreds."""

_EXIF = (
    *("Make", "Model", "LensModel", "DateTimeOriginal", "DateTime", "ExposureTime", "FNumber", "ISOSpeedRatings"),
    *("FocalLength", "Orientation", "Software", "ImageDescription", "Artist", "Copyright"),
)


@dataclass(frozen=True, slots=True)
class Large:
    """An image opened large.

    Attributes:
        data: WebP.
        facts: Its size, kind and what EXIF says, as words.
    """

    data: bytes
    facts: dict[str, str]


class Thumbnails:
    """Makes and keeps small images; used from the event loop only.

    Args:
        pipeline: How files are opened, and by how many workers.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        how = replace(pipeline.decode_options, draft=True)
        self._stack = ExitStack()
        self._pool = self._stack.enter_context(ThreadPoolExecutor(max(1, pipeline.workers), "thumbnail"))
        enter = self._stack.enter_context
        self._shrink = enter(isolated(partial(_shrink, decode_options=how), pipeline.isolation))
        self._enlarge = enter(isolated(partial(_open_large, decode_options=how), pipeline.isolation))
        self._small: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._large: OrderedDict[int, Large] = OrderedDict()
        self._gate = asyncio.Semaphore(2 * max(1, pipeline.workers))
        self._waiting = 0

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._stack.close()

    async def small(self, image: int, path: str, wanted: Callable[[], Any]) -> bytes:
        """Return an image as WebP of at most `SMALL` pixels a side.

        Args:
            image: Its id, which is another once the file has changed.
            path: The file.
            wanted: Awaited before any work: false once nobody waits any longer.

        Raises:
            ImageError: It cannot be read, or nobody waits any longer.
            ResourceError: Too many wait already.
        """
        if image in self._small:
            self._small.move_to_end(image)
            return self._small[image]
        data: bytes = await self._make(self._shrink, path, wanted)
        self._bytes += len(data) - len(self._small.pop(image, b""))
        self._small[image] = data
        while self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._small.popitem(last=False)[1])
        return data

    async def large(self, image: int, path: str, wanted: Callable[[], Any]) -> Large:
        """Return an image of at most `LARGE` pixels a side, and what is known of its file; raises as `small`."""
        if image not in self._large:
            self._large[image] = await self._make(self._enlarge, path, wanted)
        self._large.move_to_end(image)
        while len(self._large) > _KEPT_LARGE:
            self._large.popitem(last=False)
        return self._large[image]

    async def _make(self, read: Callable[[IO[bytes]], Any], path: str, wanted: Callable[[], Any]) -> Any:
        if self._waiting >= _MOST_WAITING:
            raise ResourceError("too many images are asked for at once")
        self._waiting += 1
        try:
            async with self._gate:
                if not await wanted():
                    raise ImageError("the request was cancelled")
                return await asyncio.get_running_loop().run_in_executor(self._pool, _read, read, path)
        finally:
            self._waiting -= 1


def _read(read: Callable[[IO[bytes]], Any], path: str) -> Any:
    with open_file(path) as file:
        return read(file)


def _to_webp(image: Image.Image, side: int, quality: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=2)
    return stream.getvalue()


def _shrink(file: IO[bytes], decode_options: DecodeOptions) -> bytes:
    return _to_webp(decode(file, decode_options, SMALL // 2), SMALL, 65)


def _open_large(file: IO[bytes], decode_options: DecodeOptions) -> Large:
    image = decode(file, decode_options, LARGE // 2)
    file.seek(0)
    return Large(_to_webp(image, LARGE, 80), _facts(file))


def _facts(file: IO[bytes]) -> dict[str, str]:
    """Return what the file says of itself; metadata that cannot be read says nothing."""
    found: dict[str, str] = {}
    try:
        with Image.open(file) as image:
            found["size"] = f"{image.width} × {image.height} pixels"
            found["kind"] = f"{image.format}, {image.mode}"
            exif = image.getexif()
            values = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
            names = {ExifTags.TAGS.get(key, ""): value for key, value in values.items()}
            found |= {name: text for name in _EXIF if name in names and (text := _as_words(names[name]))}
    except Exception:
        return found
    return found


def _as_words(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(character for character in text if character.isprintable()).strip()[:200]
