"""Paths that are read by a thread, since whatever lists them may be slow or block."""

from __future__ import annotations

import threading
from collections.abc import Iterable


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
        self._paths: list[str] = []
        self._ended = False
        self._error: BaseException | None = None
        threading.Thread(target=self._read, name="paths", daemon=True).start()

    def take(self, seconds: float | None = None) -> list[str]:
        """Return the paths that are at hand, waiting for the first of them; none where it does not come, or at the end.

        Args:
            seconds: Wait no longer; None for as long as it takes.

        Raises:
            BaseException: What the source raised, once the paths before it were taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._paths or self._ended, seconds)
            taken, self._paths = self._paths, []
            self._changed.notify_all()
            if not taken and self._error is not None:
                raise self._error
            return taken

    @property
    def ended(self) -> bool:
        """Whether all were taken."""
        with self._changed:
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
                with self._changed:
                    while len(self._paths) >= self._most and not self._ended:
                        self._changed.wait()
                    if self._ended:
                        return
                    self._paths.append(path)
                    if len(self._paths) == 1:
                        self._changed.notify_all()
        except BaseException as raised:  # for whoever takes the paths, in that thread
            error = raised
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
