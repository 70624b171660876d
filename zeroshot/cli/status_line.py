"""The status line at the bottom of a terminal, below other output."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from itertools import groupby
from typing import BinaryIO

_SECONDS = 0.1
"""The line is painted anew, and what came meanwhile is printed, so often."""

_ERASE = b"\r\x1b[2K"

_active: StatusLine | None = None

quiet = False
"""Whether no line is shown at all."""


class StatusLine:
    """Shows a text on stderr as long as the block lasts, painted at most ten times a second.

    Output to the same terminal goes through `above`, so that it is printed in batches, each between two paintings.
    Nothing is shown where stderr is no terminal, or inside the block of another line.

    Args:
        text: Gives what the line reads now, without a line end.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._shown = ""
        self._waiting: list[tuple[BinaryIO, bytes]] = []
        self._failure: OSError | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StatusLine:
        global _active
        if _active is None and not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            _active = self
            self.paint()
            self._thread = threading.Thread(target=self._keep_painting, name="status", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _active
        if self._thread is None:
            return
        try:
            self._stopped.set()
            self._thread.join()
        finally:
            _active = self._thread = None
            self._text = str
            self.paint()
        self._raise_failure()

    def above(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream that prints to `stream` above the line; `stream` itself where the two do not meet."""
        above: BinaryIO = _Above(self, stream)  # type: ignore[assignment]
        return above if self._thread is not None and stream.isatty() else stream

    def write(self, stream: BinaryIO, data: bytes) -> None:
        """Print bytes above the line, with the next painting.

        Raises:
            OSError: The terminal took nothing the last time.
        """
        self._raise_failure()
        with self._lock:
            self._waiting.append((stream, data))

    def paint(self) -> None:
        """Print what waits, and the line below it if it reads otherwise now."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            text = self._text()
            if not waiting and text == self._shown:
                return
            error = sys.stderr.buffer
            try:
                error.write(_ERASE if self._shown else b"")
                error.flush()
                for stream, group in groupby(waiting, key=lambda item: item[0]):
                    stream.write(b"".join(data for _, data in group))
                    stream.flush()
                error.write(text.encode(sys.stderr.encoding or "utf-8", "backslashreplace"))
                error.flush()
                self._shown = text
            except OSError as failure:  # raised in the thread that prints
                self._failure = failure

    def _keep_painting(self) -> None:
        while not self._stopped.wait(_SECONDS):
            self.paint()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class _Above(io.RawIOBase):
    """Output that waits for the next painting."""

    def __init__(self, line: StatusLine, stream: BinaryIO) -> None:
        self._line = line
        self._stream = stream

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Hand bytes over; they are printed soon."""
        self._line.write(self._stream, bytes(data))
        return len(data)


def print_error(data: bytes) -> None:
    """Print bytes on stderr, above the line that is shown there."""
    if _active is None:
        sys.stderr.write(data.decode(sys.stderr.encoding or "utf-8"))
        sys.stderr.flush()
    else:
        _active.write(sys.stderr.buffer, data)


def erase_echo() -> None:
    """Erase the ``^C`` that a terminal shows for Ctrl-C, so that what is printed next begins a line."""
    if _active is None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        sys.stderr.write(_ERASE.decode())
