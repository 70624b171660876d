"""Paths in, features out, in order: images are read ahead, batched, encoded and cached.

Images are read, decoded and resized ahead of the encoder by threads (Pillow releases the interpreter's lock
while it works); what waits is bounded. A batch is encoded when it is full, or when no further image is at hand,
so that a slow list of paths is answered as it trickles in. Features that the cache knows are looked up many at a time,
and neither decoded nor encoded again.

What holds with threads: whatever a damaged file makes Pillow raise is one failed record; a decoder that crashes in C
ends the run (which `--resume` continues), and one that hangs hangs it. With `Isolation` each is one failed record.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, TYPE_CHECKING

import numpy as np

from ..encoder import BatchingEncoder, Encoder, EncoderSpec, Features, ParallelEncoder, Pixels, Preprocessing
from ..errors import ImageError
from ..images.decode import DecodeOptions, decode
from ..images.isolate import Isolation, isolated
from ..images.preprocess import fit
from ..images.sources.open_image import open_file, stamp_of
from ..messages import as_many
from ..system.file_descriptors import affordable_workers, check_descriptors
from ..system.installed import available_cores
from .bulk_lookup import LookUp
from .keys import FileState
from .read_ahead import Ahead, CachedRun

if TYPE_CHECKING:
    from .cache import FeatureCache


DEFAULT_BATCH = 32
"""Images encoded together where nothing else is known."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How images are fed to the encoder; only the way of opening them changes an answer.

    Attributes:
        batch_size: Images encoded together.
        workers: Threads that read and decode, or have it done by their processes.
        decode_options: How files are opened.
        cache: Where features are stored between runs; None stores none.
        fixed_batches: Batches are exact slices of the paths, however slowly those come, and the encoder always sees a
            full one, so that not even the last digit of a feature depends on when an image came or what is cached.
        isolation: Each worker decodes in a process of its own, which may crash or hang; None trusts the decoders.
        stored: Gives features that were computed before, or why there are none; no image is opened then.
        suited: Batches are as large as the encoder's device likes them, where it knows and `fixed_batches` is not set.
    """

    batch_size: int = DEFAULT_BATCH
    workers: int = field(default_factory=available_cores)
    decode_options: DecodeOptions = field(default_factory=DecodeOptions)
    cache: FeatureCache | None = None
    fixed_batches: bool = False
    isolation: Isolation | None = None
    stored: Callable[[str], Features | str] | None = None
    suited: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """One input after encoding: its features, or the error.

    Attributes:
        path: As given.
        features: Unit row, shape ``(dim,)``; None for a failure.
        error: Why it could not be read; empty otherwise.
    """

    path: str
    features: Features | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Inputs after encoding, in order: one batch, or several of which every input could be read.

    Attributes:
        paths: As given.
        features: Unit rows of those that could be read, shape ``(n_read, dim)``.
        errors: Why the others could not, by their place among the paths.
        sizes: How many rows each batch has: what is scored together, whether or not it was known.
    """

    paths: Sequence[str]
    features: Features
    errors: Mapping[int, str]
    sizes: Sequence[int]

    def batches(self) -> Iterator[list[Encoded]]:
        """Yield each batch, input by input."""
        if self.errors:
            rows = iter(self.features)
            yield [
                Encoded(path, None, self.errors[place]) if place in self.errors else Encoded(path, next(rows))
                for place, path in enumerate(self.paths)
            ]
            return
        start = 0
        for size in self.sizes:
            part = slice(start, start + size)
            yield [Encoded(*item) for item in zip(self.paths[part], self.features[part], strict=True)]
            start += size


@dataclass(frozen=True, slots=True)
class _Fresh:
    """An image to encode, and the cache key of its features."""

    pixels: Pixels
    content: bytes = b""
    state: FileState | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """An image whose features the cache has, and the file that was read to find them."""

    features: Features
    content: bytes = b""
    state: FileState | None = None


# What a worker makes of a path: an image to encode, features that are known already, or why there is neither.
Prepared = _Fresh | _Known | str


def encode_batches(encoder: Encoder, paths: Iterable[str], pipeline: Pipeline = Pipeline()) -> Iterator[list[Encoded]]:
    """Yield the inputs in order, encoded, in lists of at most a batch's size."""
    for block in encode_blocks(encoder, paths, pipeline):
        yield from block.batches()


def encode_blocks(encoder: Encoder, paths: Iterable[str], pipeline: Pipeline = Pipeline()) -> Iterator[Block]:
    """Yield the inputs in order: those that are encoded batch by batch, those that are known many batches at a time.

    The batches are the same whatever is known, and on however many devices they are encoded.
    """
    ahead = encoder.n_devices + 1 if isinstance(encoder, ParallelEncoder) else 0
    begun: deque[Callable[[], Block]] = deque()
    for finish in _begin_blocks(encoder, paths, pipeline):
        if finish is not None:
            begun.append(finish)
        while len(begun) > (0 if finish is None else ahead):
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()


def _begin_blocks(encoder: Encoder, paths: Iterable[str], pipeline: Pipeline) -> Iterator[Callable[[], Block] | None]:
    """Yield what gives each block, once its batch is being encoded; None when no further input is at hand."""
    if pipeline.suited and not pipeline.fixed_batches and isinstance(encoder, BatchingEncoder):
        pipeline = replace(pipeline, batch_size=encoder.best_batch)
    how, cache, dim = pipeline.decode_options, pipeline.cache, encoder.spec.dim
    key = b"" if cache is None else cache.image_key(encoder.spec, how)
    size = pipeline.batch_size
    waiting: list[tuple[str, Prepared]] = []
    looks = cache is not None and pipeline.stored is None
    find = LookUp(cache, key, dim) if cache is not None and looks else None
    read = partial(read_pixels, decode_options=how, how=encoder.spec.preprocessing)
    # A worker's file; its connection to the cache; the socket and pipe of its child, and what starting that takes.
    each = 1 + (0 if cache is None else 3) + (0 if pipeline.isolation is None else 4)
    workers = max(1, affordable_workers(pipeline.workers, each))
    with isolated(read, pipeline.isolation) as decoder:
        load = partial(_load, encoder=encoder, pipeline=pipeline, key=key, read=decoder)
        ahead: Iterable[CachedRun | tuple[str, Prepared] | None] = Ahead(
            as_many(paths), load, find, workers, 2 * size + workers
        )
        for item in ahead:
            if isinstance(item, CachedRun):
                begun = min(len(item.paths), -len(waiting) % size)  # what a batch that has begun still lacks
                whole = begun + (len(item.paths) - begun) // size * size
                waiting += _items(item, 0, begun)
                if len(waiting) == size:
                    yield _begin(encoder, waiting, pipeline, key)
                    waiting = []
                if whole > begun:
                    sizes = (size,) * ((whole - begun) // size)
                    yield partial(Block, item.paths[begun:whole], item.features[begun:whole], {}, sizes)
                waiting += _items(item, whole, len(item.paths))
                continue
            if item is not None:
                waiting.append(item)
            idle = item is None and not pipeline.fixed_batches
            if waiting and (idle or len(waiting) >= size):
                yield _begin(encoder, waiting, pipeline, key)
                waiting = []
            if item is None:
                yield None
        if waiting:
            yield _begin(encoder, waiting, pipeline, key)


def _items(run: CachedRun, start: int, end: int) -> Iterator[tuple[str, Prepared]]:
    """Yield some of a run's images one by one."""
    for place in range(start, end):
        yield run.paths[place], _Known(run.features[place])


def read_pixels(file: IO[bytes], decode_options: DecodeOptions, how: Preprocessing) -> Pixels:
    """Decode and resize an open file; a function of the module, so that it can be pickled for another process."""
    return fit(decode(file, decode_options, max(how.size)), how, decode_options.resize)


def _load(path: str, encoder: Encoder, pipeline: Pipeline, key: bytes, read: Callable[[IO[bytes]], Pixels]) -> Prepared:
    """Look up an image's features, or decode and resize it; a failure is returned as its reason, never raised."""
    with failing_softly() as failed:
        if pipeline.stored is not None:
            found = pipeline.stored(path)
            return found if isinstance(found, str) else _Known(found)
        path = os.fspath(path)  # callers of the library may have any path
        with open_file(path) as file:
            if pipeline.cache is None:
                return _Fresh(read(file))
            stamp = stamp_of(path, file)
            state = None if stamp is None else FileState.of(path, stamp)
            remembered = None if state is None else pipeline.cache.find_content(state)
            file.seek(0)
            content = remembered or hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
            known = pipeline.cache.find(key, content, encoder.spec.dim)
            if known is not None and remembered:
                return _Known(known)
            file.seek(0)
            item = _Fresh(read(file)) if known is None else _Known(known)
            # A file that was written to meanwhile may be neither what was hashed nor what was decoded.
            same = stamp_of(path, file) == stamp
            return replace(item, content=content, state=state) if same else item
    return failed[0]


@contextmanager
def failing_softly() -> Iterator[list[str]]:
    """Keep, in the list that it gives, why an image cannot be used; what is wrong with anything else is raised."""
    failed: list[str] = []
    try:
        yield failed
    except ImageError as error:
        failed.append(error.message)
    except MemoryError:
        failed.append("too large for the memory at hand")
    except (ValueError, OSError) as error:  # resizing an image of an extreme shape
        check_descriptors(error)
        failed.append(f"cannot be resized: {' '.join(str(error).split()) or type(error).__name__}")


def encode_pixels(encoder: Encoder, images: Sequence[tuple[str, Pixels | str]], batch_size: int) -> list[Encoded]:
    """Encode images that were read before, or could not be (the reason instead), as a full batch, in their order."""
    items: list[tuple[str, Prepared]] = [
        (path, made if isinstance(made, str) else _Fresh(made)) for path, made in images
    ]
    (batch,) = _begin(encoder, items, Pipeline(batch_size, 1, fixed_batches=True), b"")().batches()
    return batch


def _begin(encoder: Encoder, items: list[tuple[str, Prepared]], pipeline: Pipeline, key: bytes) -> Callable[[], Block]:
    """Begin to encode what could be read of a batch; gives what waits for its features and stores them."""
    fresh = [item for _, item in items if isinstance(item, _Fresh)]
    # Kernels may round otherwise for another number of rows, but not for other neighbours.
    filler = [fresh[0].pixels] * (pipeline.batch_size - len(fresh)) if fresh and pipeline.fixed_batches else []
    if not fresh:
        none = np.zeros((0, encoder.spec.dim), dtype=np.float32)
        return lambda: _finish(encoder.spec, items, none, pipeline.cache, key)
    pixels = np.stack([*(item.pixels for item in fresh), *filler])
    if isinstance(encoder, ParallelEncoder):
        encode: Callable[[], Features] = encoder.submit(pixels).result
    else:
        encode = partial(encoder.encode_images, pixels)
    return lambda: _finish(encoder.spec, items, encode()[: len(fresh)], pipeline.cache, key)


def _finish(
    spec: EncoderSpec, items: list[tuple[str, Prepared]], rows: Features, cache: FeatureCache | None, key: bytes
) -> Block:
    """Store the features of a batch, and return them with the failures in input order."""
    if cache is not None:
        fresh = [item for _, item in items if isinstance(item, _Fresh)]
        kept = [(item, row) for item, row in zip(fresh, rows, strict=True) if item.content and np.isfinite(row).all()]
        # A copy, or a file that was moved or touched, is remembered too: else each run would read it to its end.
        seen: list[_Fresh | _Known] = [item for item, _ in kept]
        seen += [item for _, item in items if isinstance(item, _Known)]
        files = [(item.state, item.content) for item in seen if item.state is not None and item.state.settled()]
        if kept or files:
            cache.add(key, spec.model, [(item.content, row) for item, row in kept], files)
    following = iter(rows)
    encoded = [
        Encoded(path, None, item)
        if isinstance(item, str)
        else checked(path, next(following) if isinstance(item, _Fresh) else item.features)
        for path, item in items
    ]
    return as_block(encoded, spec.dim)


def as_block(batch: Sequence[Encoded], dim: int) -> Block:
    """Put the inputs of a batch together; features have `dim` numbers."""
    rows = [item.features for item in batch if item.features is not None]
    features = np.stack(rows) if rows else np.zeros((0, dim), dtype=np.float32)
    errors = {place: item.error for place, item in enumerate(batch) if item.features is None}
    return Block([item.path for item in batch], features, errors, (len(rows),))


def checked(path: str, features: Features) -> Encoded:
    """Turn non-finite features into a failed record: NaN compares with nothing, and JSON has none."""
    if np.isfinite(features).all():
        return Encoded(path, features)
    return Encoded(path, None, "the model gives no finite numbers for it (--precision fp32 may help)")
