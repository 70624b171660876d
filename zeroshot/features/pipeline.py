"""Paths in, features out, in order: images are read ahead, batched, encoded and cached.

Images are read, decoded and resized ahead of the encoder by threads (Pillow releases the interpreter's lock
while it works); what waits is bounded. A batch is encoded when it is full, or when no further image is at hand,
so that a slow list of paths is answered as it trickles in. Features that the cache knows are neither decoded nor
encoded again.

What holds with threads: whatever a damaged file makes Pillow raise is one failed record; a decoder that crashes in C
ends the run (which `--resume` continues), and one that hangs hangs it. With `Isolation` each is one failed record.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO

import numpy as np

from ..encoder import Encoder, Features, Pixels, Preprocessing
from ..errors import ImageError
from ..images.decode import DecodeOptions, decode
from ..images.isolate import Isolation, isolated
from ..images.preprocess import fit
from ..images.sources.opening import open_file, stamp_of
from ..messages import as_many
from ..system.descriptors import affordable_workers, check_descriptors
from ..system.installed import available_cores
from .cache import FeatureCache
from .keys import FileState

_IDLE_SECONDS = 0.02
"""How long a batch that is not full waits for the next path before it is encoded."""


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
    """

    batch_size: int = 32
    workers: int = field(default_factory=available_cores)
    decode_options: DecodeOptions = field(default_factory=DecodeOptions)
    cache: FeatureCache | None = None
    fixed_batches: bool = False
    isolation: Isolation | None = None
    stored: Callable[[str], Features | str] | None = None


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
    how = pipeline.decode_options
    key = b"" if pipeline.cache is None else pipeline.cache.image_key(encoder.spec, how)
    waiting: list[tuple[str, Prepared]] = []
    paths = as_many(paths)
    read = partial(_read_pixels, decode_options=how, how=encoder.spec.preprocessing)
    with isolated(read, pipeline.isolation) as decoder:
        for item in _prepare(paths, lambda path: _load(path, encoder, pipeline, key, decoder), pipeline):
            if item is not None:
                waiting.append(item)
            idle = item is None and not pipeline.fixed_batches
            if waiting and (idle or len(waiting) >= pipeline.batch_size):
                yield _encode(encoder, waiting, pipeline, key)
                waiting = []
        if waiting:
            yield _encode(encoder, waiting, pipeline, key)


def _read_pixels(file: IO[bytes], decode_options: DecodeOptions, how: Preprocessing) -> Pixels:
    """Decode and resize an open file; a function of the module, so that it can be pickled for another process."""
    return fit(decode(file, decode_options, max(how.size)), how)


def _load(path: str, encoder: Encoder, pipeline: Pipeline, key: bytes, read: Callable[[IO[bytes]], Pixels]) -> Prepared:
    """Look up an image's features, or decode and resize it; a failure is returned as its reason, never raised."""
    with _failing_softly() as failed:
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
def _failing_softly() -> Iterator[list[str]]:
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


def _encode(encoder: Encoder, items: list[tuple[str, Prepared]], pipeline: Pipeline, key: bytes) -> list[Encoded]:
    """Encode what could be read, and return features and failures in input order."""
    cache = pipeline.cache
    fresh = [item for _, item in items if isinstance(item, _Fresh)]
    # Kernels may round otherwise for another number of rows, but not for other neighbours.
    filler = [fresh[0].pixels] * (pipeline.batch_size - len(fresh)) if fresh and pipeline.fixed_batches else []
    rows = encoder.encode_images(np.stack([*(item.pixels for item in fresh), *filler]))[: len(fresh)] if fresh else ()
    if cache is not None:
        kept = [(item, row) for item, row in zip(fresh, rows, strict=True) if item.content and np.isfinite(row).all()]
        # A copy, or a file that was moved or touched, is remembered too: else each run would read it to its end.
        seen: list[_Fresh | _Known] = [item for item, _ in kept]
        seen += [item for _, item in items if isinstance(item, _Known)]
        files = [(item.state, item.content) for item in seen if item.state is not None and item.state.settled()]
        if kept or files:
            cache.add(key, encoder.spec.model, [(item.content, row) for item, row in kept], files)
    encoded: list[Encoded] = []
    following = iter(rows)
    for path, item in items:
        if isinstance(item, str):
            encoded.append(Encoded(path, None, item))
        else:
            encoded.append(checked(path, next(following) if isinstance(item, _Fresh) else item.features))
    return encoded


def checked(path: str, features: Features) -> Encoded:
    """Turn non-finite features into a failed record: NaN compares with nothing, and JSON has none."""
    if np.isfinite(features).all():
        return Encoded(path, features)
    return Encoded(path, None, "the model gives no finite numbers for it (--precision fp32 may help)")


def _prepare(
    paths: Iterable[str], load: Callable[[str], Prepared], pipeline: Pipeline
) -> Iterator[tuple[str, Prepared] | None]:
    """Yield each path with its pixels or failure, in order; None when no further path is available yet.

    One thread reads the paths (which may block on a pipe or a slow disk) and hands each to the pool; the bounded
    queue between them is what keeps memory flat.
    """
    ahead: queue.Queue[tuple[str, Future[Prepared]] | BaseException | None] = queue.Queue(
        2 * pipeline.batch_size + pipeline.workers
    )
    stopped = threading.Event()

    def put(item: tuple[str, Future[Prepared]] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read_paths() -> None:
        try:
            for path in paths:
                if not put((path, pool.submit(load, path))):
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it in its own thread
            put(error)

    # A worker's file; its connection to the cache; the socket and pipe of its child, and what starting that takes.
    each = 1 + (0 if pipeline.cache is None else 3) + (0 if pipeline.isolation is None else 4)
    workers = affordable_workers(pipeline.workers, each)
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode")
    # A daemon: it may be blocked reading stdin when the run is interrupted.
    threading.Thread(target=read_paths, name="paths", daemon=True).start()
    try:
        while True:
            try:
                item = ahead.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                yield None
                item = ahead.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            path, future = item
            yield path, future.result()
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
