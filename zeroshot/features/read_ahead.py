"""Images made ready ahead of the encoder, in order: those that are known at once, the others by a pool of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

from ..encoder import Features
from ..system.signals import kept
from .bulk_lookup import Known
from .path_queue import Incoming

IDLE_SECONDS = 0.02
"""How long a batch that is not full waits for the next path before it is encoded."""

_MOST_LOOKED_UP = 2048
"""Paths that are looked up at once, as many as are at hand: beyond it each takes no less time, and memory."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class CachedRun:
    """Images in a row whose features are known.

    Attributes:
        paths: As given.
        features: Shape ``(n_images, dim)``.
    """

    paths: list[str]
    features: Features


class Ahead(Generic[Made]):
    """Images that are being made ready.

    Args:
        paths: Of all images.
        load: Makes one ready; called in threads.
        look_up: Says which of some images are known; None where nothing is kept.
        workers: Threads.
        most: Images that wait, ready or not, besides those that are looked up together.
    """

    def __init__(
        self,
        paths: Iterable[str],
        load: Callable[[str], Made],
        look_up: Callable[[list[str]], Known] | None,
        workers: int,
        most: int,
    ) -> None:
        self._load = load
        self._look_up = look_up
        self._most = most
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._incoming = Incoming(paths, max(1, most // 3) if look_up is None else _MOST_LOOKED_UP)
        self._looked: deque[CachedRun | str] = deque()
        self._ready: deque[CachedRun | tuple[str, Future[Made]]] = deque()
        self._n_ready = 0

    def __iter__(self) -> Iterator[CachedRun | tuple[str, Made] | None]:
        """Yield each path with what was made of it, or several that are known; None when no further one is at hand.

        Raises:
            BaseException: What the paths raised, after those before it.
        """
        try:
            while True:
                self._fill(0.0)
                if not self._ready and not self._incoming.ended:
                    self._fill(IDLE_SECONDS)
                    if not self._ready:
                        yield None
                        self._fill(None)
                if not self._ready:
                    return
                item = self._ready.popleft()
                if isinstance(item, CachedRun):
                    self._n_ready -= len(item.paths)
                    yield item
                else:
                    self._n_ready -= 1
                    with kept():
                        made = item[1].result()
                    yield item[0], made
        finally:
            self._incoming.stop()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, seconds: float | None) -> None:
        """Have as many made ready as may wait.

        Args:
            seconds: How long to wait for a path where none is at hand.
        """
        while self._n_ready < self._most:
            if not self._looked and (paths := self._take(seconds)):
                self._looked.extend(self._split(paths))
            if not self._looked:
                return
            item = self._looked.popleft()
            if isinstance(item, CachedRun):
                self._n_ready += len(item.paths)
                self._ready.append(item)
            else:
                self._n_ready += 1
                self._ready.append((item, self._pool.submit(self._load, item)))
            seconds = 0.0

    def _take(self, seconds: float | None) -> list[str]:
        """Return paths that are at hand; an error of theirs waits until those before it are through."""
        try:
            with kept():
                return self._incoming.take(seconds)
        except BaseException as error:
            if self._ready and error is self._incoming.error:
                return []
            raise

    def _split(self, paths: list[str]) -> Iterator[CachedRun | str]:
        """Yield stretches of known images, and the others one by one."""
        if self._look_up is None:
            yield from paths
            return
        known = self._look_up(paths)
        edges = [0, *(np.flatnonzero(np.diff(known.found)) + 1).tolist(), len(paths)]
        row = 0
        for start, end in pairwise(edges):
            if known.found[start]:
                yield CachedRun(paths[start:end], known.features[row : row + end - start])
                row += end - start
            else:
                yield from paths[start:end]
