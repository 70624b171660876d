"""Signals that stop a run: Ctrl-C (SIGINT), SIGTERM, and SIGHUP when a terminal is closed. All are handled alike.

On Windows SIGBREAK comes with Ctrl-Break and when the console is closed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")

_at_stop: list[Callable[[], None]] = []
_stopping = False


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the run to stop; clean-up is the same as for Ctrl-C.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Return 128 + the signal, as shells report it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)


def handle_stops() -> None:
    """Have them raise `Stopped`, and Ctrl-C KeyboardInterrupt, unless the user has had them ignored (``nohup``)."""
    global _stopping
    _stopping = False
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGINT", *_NAMES):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def at_stop(cut_short: Callable[[], None]) -> None:
    """Have something called as a signal stops the run, before it is raised: what threads wait for ends then.

    It interrupts whatever the main thread does, and must take no lock.
    """
    _at_stop.append(cut_short)


def stopping() -> bool:
    """Say whether a signal has stopped the run; what its threads still make is not wanted."""
    return _stopping


def exit_at_once() -> None:
    """Have a signal end this process from now on: the command is over, and only waits for threads."""
    for name in ("SIGINT", *_NAMES):
        number = getattr(signal, name, None)
        if number is not None and callable(signal.getsignal(number)):
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(128 + number)


def _stop(number: int, _frame: FrameType | None) -> None:
    _raise(number)


def _raise(number: int) -> NoReturn:
    global _stopping
    _stopping = True
    for cut_short in _at_stop:
        cut_short()
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay signals until the block has finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", *_NAMES) if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
    if came:
        _raise(came[0])


@contextmanager
def kept() -> Iterator[None]:
    """Raise a stop of which other code made an error of its own.

    `threading.Condition` reports a lock that is not held, and a C module that it could not be initialised.
    """
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, KeyboardInterrupt):
            behind = behind.__cause__ or (behind.__context__ if isinstance(behind, RuntimeError) else None)
        if behind is None:
            raise
        raise behind from None


def finish_each(steps: Iterator[T]) -> Iterator[T]:
    """Yield what steps give; a signal waits for the step in hand, so that none is left half done."""
    while True:
        outcome = None
        try:
            with held_back():
                outcome = next(steps, None)
        except KeyboardInterrupt:
            if outcome is not None:
                yield outcome  # the step was finished first: it counts
            raise
        if outcome is None:
            return
        yield outcome
