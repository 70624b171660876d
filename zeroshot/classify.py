"""Paths in, one record per path out, in order: the run itself.

Pictures are read, decoded and resized ahead of the encoder by threads (Pillow releases the interpreter's lock
while it works); what waits is bounded. A batch is encoded when it is full, or when no further picture is at hand,
so that a slow list of paths is answered as it trickles in.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .classifier import Classifier
from .encoder import Encoder, Features, Pixels, Preprocessing
from .errors import PictureError
from .pictures import Opening, open_picture
from .preprocess import fit
from .results import Failure, Prediction, Record

_IDLE_SECONDS = 0.02
"""How long a batch that is not full waits for the next path before it is encoded."""


def available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How pictures are fed to the encoder; nothing here changes an answer.

    Attributes:
        batch_size: Pictures encoded together.
        workers: Threads that read and decode.
        opening: How files are opened (this does change answers).
    """

    batch_size: int = 32
    workers: int = field(default_factory=available_cores)
    opening: Opening = field(default_factory=Opening)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One input after the encoder: its features, or why there are none.

    Attributes:
        path: As given.
        features: Unit row, shape ``(dim,)``; None for a failure.
        error: Why it could not be read; empty otherwise.
    """

    path: str
    features: Features | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """When a probability becomes an answer.

    Attributes:
        top_k: How many of the best answers a record lists.
        threshold: Below this probability the label is None: "unknown".
    """

    top_k: int = 5
    threshold: float = 0.0


def classify_paths(
    encoder: Encoder,
    classifier: Classifier,
    paths: Iterable[str],
    decision: Decision = Decision(),
    pipeline: Pipeline = Pipeline(),
) -> Iterator[Record]:
    """Yield exactly one record per path, in order, each as soon as its batch is encoded."""
    for batch in encode_batches(encoder, paths, pipeline):
        yield from decide(classifier, batch, decision)


def decide(classifier: Classifier, batch: list[Encoded], decision: Decision) -> list[Record]:
    """Turn encoded pictures into records, one each, in order."""
    rows = [item.features for item in batch if item.features is not None]
    ranked = iter(classifier.rank(np.stack(rows), decision.top_k) if rows else [])
    records: list[Record] = []
    for item in batch:
        if item.features is None:
            records.append(Failure(item.path, item.error))
            continue
        top, outdone = next(ranked)
        known = not outdone and top[0].probability >= decision.threshold
        records.append(Prediction(item.path, top[0].label if known else None, top[0].probability, top))
    return records


def encode_batches(encoder: Encoder, paths: Iterable[str], pipeline: Pipeline = Pipeline()) -> Iterator[list[Encoded]]:
    """Yield the inputs in order, encoded, in lists of at most a batch's size."""
    size = encoder.spec.preprocessing
    waiting: list[tuple[str, Pixels | str]] = []
    for item in _prepare(paths, lambda path: _load(path, pipeline.opening, size), pipeline):
        if item is not None:
            waiting.append(item)
        if waiting and (item is None or len(waiting) >= pipeline.batch_size):
            yield _encode(encoder, waiting)
            waiting = []
    if waiting:
        yield _encode(encoder, waiting)


def _load(path: str, opening: Opening, preprocessing: Preprocessing) -> Pixels | str:
    """Decode and resize one picture; a failure is returned as its reason, never raised."""
    try:
        return fit(open_picture(path, opening), preprocessing)
    except PictureError as error:
        return error.message
    except (MemoryError, ValueError, OSError) as error:  # resizing a picture of an extreme shape
        return f"cannot be resized: {' '.join(str(error).split()) or type(error).__name__}"


def _encode(encoder: Encoder, items: list[tuple[str, Pixels | str]]) -> list[Encoded]:
    """Encode what could be read, and put features and failures back in their places."""
    readable = [pixels for _, pixels in items if not isinstance(pixels, str)]
    rows = iter(encoder.encode_images(np.stack(readable)) if readable else ())
    return [
        Encoded(path, None, found) if isinstance(found, str) else _checked(path, next(rows)) for path, found in items
    ]


def _checked(path: str, features: Features) -> Encoded:
    """Make a failure of features that are no numbers: they would compare with nothing, and JSON has no NaN."""
    if np.isfinite(features).all():
        return Encoded(path, features)
    return Encoded(path, None, "the model gives no finite numbers for it (--precision fp32 may)")


def _prepare(
    paths: Iterable[str], load: Callable[[str], Pixels | str], pipeline: Pipeline
) -> Iterator[tuple[str, Pixels | str] | None]:
    """Yield each path with its pixels or failure, in order; None whenever no further path is at hand.

    One thread reads the paths (which may block on a pipe or a slow disk) and hands each to the pool; the bounded
    queue between them is what keeps memory flat.
    """
    ahead: queue.Queue[tuple[str, Future[Pixels | str]] | BaseException | None] = queue.Queue(
        2 * pipeline.batch_size + pipeline.workers
    )
    stopped = threading.Event()

    def put(item: tuple[str, Future[Pixels | str]] | BaseException | None) -> bool:
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

    pool = ThreadPoolExecutor(max(1, pipeline.workers), thread_name_prefix="decode")
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
