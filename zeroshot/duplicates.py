"""Duplicates: copies of the same file, and images that differ only by size, compression or format.

No model is needed. Two images are near-duplicates if their 24 x 24 thumbnails correlate in grey, hardly differ in
colour and differ much in no place. A crop, a mirror image or another shot of the same thing is not found. Files whose
first image is not all of them (several frames or pages, a camera's RAW values) are compared by content alone.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
from PIL import Image

from .errors import ImageError
from .features.pipeline import Pipeline
from .images.camera_formats import RAW_SUFFIXES, is_raw, is_raw_tiff, raw_size
from .images.decode import HEAD_BYTES, DecodeOptions, decode
from .images.sources.open_image import open_file
from .results import Failure
from .system.file_descriptors import affordable_workers, check_descriptors

SIDE = 24
"""Pixels of a thumbnail's side. At 16 two pages of text look alike; at 32 a reduced copy begins to differ."""
MIN_SIMILARITY = 0.985
"""Least correlation of two near-duplicates' grey thumbnails, unless another is asked for."""
LEAST_CONTRAST = 4.0
"""Standard deviation, in grey levels, below which a thumbnail says too little to compare: only copies are found."""
MOST_DIFFERENCE = 12.0
"""Mean difference of two near-duplicates' thumbnails per colour value, in levels of 255."""
MOST_IN_ONE_PLACE = 24.0
"""Largest difference of two near-duplicates' grey thumbnails at any pixel, in levels of 255, beside a shift of all."""
_BLOCK = 512

Rows = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group of duplicates.

    Attributes:
        path: As the user gave it.
        width: Pixels, before it is turned upright.
        height: Pixels, before it is turned upright.
        size: Bytes.
        similarity: Correlation with the best copy, 1 for the same content.
        is_exact: Whether its content is the best copy's, byte for byte.
    """

    path: str
    width: int
    height: int
    size: int
    similarity: float
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are duplicates of one another.

    Attributes:
        best: The one with most pixels; of those the largest file, of those the shortest name, of those the first in
            input order.
        others: The rest, best first.
    """

    best: Copy
    others: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The outcome.

    Attributes:
        groups: In the input order of their best copies.
        failures: Images that could not be read.
        searched: How many could.
        content_only: How many of those have several frames or pages or are RAW files, of which only copies are found.
    """

    groups: tuple[Group, ...]
    failures: tuple[Failure, ...]
    searched: int
    content_only: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of an image: enough to compare it; no thumbnail where its content alone decides."""

    path: str
    content: bytes
    width: int
    height: int
    size: int
    thumbnail: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = field(repr=False)

    @property
    def worth(self) -> tuple[int, int, int]:
        # `IMG_1 (1).jpg` and `copy of IMG_1.jpg` are what programs call a copy.
        return self.width * self.height, self.size, -len(PurePath(self.path).name)

    def copy_of(self, best: _Look, similarity: float) -> Copy:
        is_exact = self.content == best.content
        return Copy(self.path, self.width, self.height, self.size, 1.0 if is_exact else similarity, is_exact)


def find_duplicates(
    paths: Iterable[str],
    pipeline: Pipeline,
    min_similarity: float = MIN_SIMILARITY,
    *,
    exact: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Duplicates:
    """Group the images that are copies or near-duplicates of one another.

    Each image is compared with the best copy of every group, best images first, so that no chain of small changes
    joins images that are not alike. A file that is named twice, or under two names, is no duplicate of itself.

    Args:
        paths: The images.
        pipeline: How they are read.
        min_similarity: Least correlation of grey thumbnails, in (0, 1].
        exact: Only copies with the same content.
        on_progress: Called with the number of images finished since the last call.
    """
    looks: list[_Look] = []
    failures: list[Failure] = []
    for item in _read_all(_distinct(paths), pipeline):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            looks.append(item)
        on_progress(1)
    order = sorted(range(len(looks)), key=lambda i: (looks[i].worth, -i), reverse=True)
    first: dict[bytes, int] = {}  # the best image of each content
    for i in order:
        first.setdefault(looks[i].content, i)
    distinct = list(first.values())
    seen = [(i, thumbnail) for i in distinct if (thumbnail := looks[i].thumbnail) is not None]
    led = {} if exact else _lead_by_look([thumbnail for _, thumbnail in seen], min_similarity)
    leaders = {i: (i, 1.0) for i in distinct} | {seen[i][0]: (seen[best][0], r) for i, (best, r) in led.items()}
    members: dict[int, list[Copy]] = {}
    for i in order:
        best, similarity = leaders[first[looks[i].content]]
        copy = looks[i].copy_of(looks[best], similarity)
        members.setdefault(best, []).append(copy)
    groups = (Group(own[0], tuple(own[1:])) for _, own in sorted(members.items()) if len(own) > 1)
    content_only = sum(look.thumbnail is None for look in looks)
    return Duplicates(tuple(groups), tuple(failures), len(looks), content_only)


def _distinct(paths: Iterable[str]) -> Iterator[str]:
    """Leave out what is the same file as one before it, by whatever name."""
    seen: set[object] = set()
    for path in paths:
        try:
            status = Path(path).stat()
            same: object = (status.st_dev, status.st_ino)
        except (OSError, ValueError):  # in an archive, in a store, or gone
            same = path
        if same not in seen:
            seen.add(same)
            yield path


def _read_all(paths: Iterable[str], pipeline: Pipeline) -> Iterator[_Look | Failure]:
    """Read images in threads, some ahead, in input order."""
    how = replace(pipeline.decode_options, draft=True)
    workers = affordable_workers(pipeline.workers, 1)
    waiting: deque[Future[_Look | Failure]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for path in paths:
            waiting.append(pool.submit(_read, path, how))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(path: str, how: DecodeOptions) -> _Look | Failure:
    try:
        with open_file(path) as file:
            content = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
            size = file.seek(0, os.SEEK_END)  # a file in memory is digested without being read
            file.seek(0)
            image = decode(file, how, SIDE)
            header = _read_header(file, path)
            # Pillow's box gives a pixel to one cell as a whole, so that a draft's cells are not the image's
            small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) if header.is_whole else None
            thumbnail = None if small is None else np.asarray(small, np.uint8)
            return _Look(path, content, header.width or image.width, header.height or image.height, size, thumbnail)
    except ImageError as error:
        return Failure(path, error.message)
    except MemoryError:
        return Failure(path, "too large for the memory at hand")
    except (ValueError, OSError) as error:
        check_descriptors(error)
        return Failure(path, f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a file says before it is decoded: its size, since a draft is smaller, and whether its first image is all."""

    width: int = 0
    height: int = 0
    is_whole: bool = False


def _read_header(file: IO[bytes], path: str) -> _Header:
    """Read the header of a file that could be decoded; what it does not tell stays 0 or False."""
    found = _Header()
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if is_raw(head):
            return _Header(*raw_size(file))
        with Image.open(file) as image:
            if is_raw_tiff(image):
                return _Header(*raw_size(file))
            found = _Header(*image.size)
            is_whole = PurePath(path).suffix.lower() not in RAW_SUFFIXES and not _holds_more(image)
            return replace(found, is_whole=is_whole)
    except Exception:  # whatever the rest of a damaged file makes Pillow raise
        return found


def _holds_more(image: Image.Image) -> bool:
    """Whether a file has frames, pages or views besides the first one.

    A camera's JPEG may hold further images (MPO): its preview or gain map, which are smaller, or the other eye's view.
    """
    if not getattr(image, "is_animated", False):
        return False
    if image.format != "MPO":
        return True
    first = image.width * image.height
    for frame in range(1, getattr(image, "n_frames", 1)):
        image.seek(frame)
        if 2 * image.width * image.height > first:
            return True
    return False


def _lead_by_look(
    thumbnails: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]], least: float
) -> dict[int, tuple[int, float]]:
    """Return, for each thumbnail that is like a better one, the best such leader and their correlation.

    Args:
        thumbnails: ``(SIDE, SIDE, 3)`` each, best images first.
        least: Correlation of grey thumbnails from which two are alike.
    """
    colours = np.stack(thumbnails).reshape(len(thumbnails), -1) if thumbnails else np.zeros((0, 3 * SIDE**2), np.uint8)
    grey = colours.reshape(len(colours), SIDE**2, 3).astype(np.float32).mean(2)
    grey -= grey.mean(1, keepdims=True)
    lengths = np.linalg.norm(grey, axis=1)
    telling = np.flatnonzero(lengths >= LEAST_CONTRAST * SIDE)  # the norm is SIDE times the deviation
    rows: Rows = grey[telling] / lengths[telling, None]
    found: dict[int, tuple[int, float]] = {}
    leaders: list[int] = []  # positions in `telling`
    kept = np.empty_like(rows)  # the leaders' rows
    for start in range(0, len(rows), _BLOCK):
        block, earlier = rows[start : start + _BLOCK], len(leaders)
        against, within = block @ kept[:earlier].T, block @ block.T
        for offset in range(len(block)):
            likely = [(float(against[offset, i]), leaders[i]) for i in np.flatnonzero(against[offset] >= least)]
            likely += [(float(within[offset, leader - start]), leader) for leader in leaders[earlier:]]
            own = colours[telling[start + offset]]
            alike = [
                (value, -leader)
                for value, leader in likely
                if value >= least and _differ_little(own, colours[telling[leader]])
            ]
            if alike:
                value, leader = max(alike)
                found[int(telling[start + offset])] = int(telling[-leader]), min(value, 1.0)
            else:
                kept[len(leaders)] = block[offset]
                leaders.append(start + offset)
    return found


def _differ_little(first: np.ndarray[tuple[int, ...], Any], second: np.ndarray[tuple[int, ...], Any]) -> bool:
    """Whether two thumbnails, as rows of colour values, differ little on average and much in no place.

    A correlation is of the whole: the hand of a clock, or a word on a sign, hardly moves it.
    """
    apart = first.astype(np.int16) - second
    grey = apart.reshape(-1, 3).mean(1)
    return bool(np.abs(apart).mean() <= MOST_DIFFERENCE and np.abs(grey - grey.mean()).max() <= MOST_IN_ONE_PLACE)
