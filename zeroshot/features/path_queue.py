"""Queues paths that a thread reads, since whatever lists them may be slow or block."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

_LOOK = 0.5
"""Seconds between two looks for a signal."""


class Incoming:
    """Takes paths from where they come from, a bounded number ahead of whoever wants them.

    Args:
        paths: Read in a thread of its own, a daemon: it may be blocked reading stdin when the run is interrupted.
        most: So many are read ahead.
    """

    def __init__(self, paths: Iterable[str], most: int) -> None:
        self._source = paths
        self._most = most
        self._changed = threading.Condition()
        self._paths: deque[str] = deque()  # put in and taken out without the lock, which only waiting needs
        self._ended = False
        self._error: BaseException | None = None
        self._wanted = False  # somebody waits for a path
        self._full = False  # the thread waits until some are taken
        threading.Thread(target=self._read, name="paths", daemon=True).start()

    def take(self, seconds: float | None = None) -> list[str]:
        """Return the paths that are at hand, waiting for the first of them; none where it does not come, or at the end.

        Args:
            seconds: Wait no longer; None for as long as it takes.

        Raises:
            BaseException: What the source raised, once the paths before it were taken.
        """
        if not self._paths:
            with self._changed:
                self._wanted = True
                # Not without end: a signal that comes as the wait begins would not wake it.
                most = _LOOK if seconds is None else seconds
                while not self._changed.wait_for(lambda: self._paths or self._ended, most) and seconds is None:
                    pass
                self._wanted = False
        taken = [self._paths.popleft() for _ in range(min(len(self._paths), self._most))]
        if self._full:
            with self._changed:
                self._changed.notify_all()
        if not taken and self.ended and self._error is not None:
            raise self._error
        return taken

    @property
    def error(self) -> BaseException | None:
        """What the source raised."""
        return self._error

    @property
    def ended(self) -> bool:
        """Whether all were taken."""
        return self._ended and not self._paths

    def stop(self) -> None:
        """Read no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for path in self._source:
                if len(self._paths) >= self._most:
                    with self._changed:
                        self._full = True
                        self._changed.wait_for(lambda: len(self._paths) < self._most or self._ended)
                        self._full = False
                if self._ended:
                    return
                self._paths.append(path)
                if self._wanted:
                    with self._changed:
                        self._changed.notify_all()
        except BaseException as raised:  # for whoever takes the paths, in that thread
            error = raised
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
