"""Encodes a collection in a thread of its own while the page is open."""

from __future__ import annotations

import threading
from functools import partial

from ..encoder import Encoder
from ..features.pipeline import Pipeline
from .collection import Collection


class Encoding:
    """Encodes a collection in the background, and again when it is asked to look for what is new.

    Args:
        collection: The images.
        encoder: The model.
        pipeline: How they are opened.
    """

    def __init__(self, collection: Collection, encoder: Encoder, pipeline: Pipeline) -> None:
        self._work = partial(collection.encode, encoder, pipeline)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._ended.set()

    def begin(self) -> threading.Thread:
        """Look for images without features, unless that is going on; return the thread that does."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="encode")
                self._thread.start()
            return self._thread

    def _run(self) -> None:
        try:
            self._work(self._stopped)
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of it, that long at most, and say whether it has ended.

        A thread whose `join` is interrupted by a signal is taken for one that has ended (bpo-45274).
        """
        return self._ended.wait(seconds)

    def stop(self, seconds: float) -> bool:
        """Let the batch in hand be the last, wait for it that long, and return whether it has ended.

        The interpreter waits for the rest: ended within a call of the engine, the process would be aborted.
        """
        self._stopped.set()
        return self.wait(seconds)
