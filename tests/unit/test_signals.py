"""A signal that stops a run is neither lost nor taken for an error, wherever in the program it comes."""

from __future__ import annotations

import signal
import threading

import pytest

from zeroshot.features.path_thread import Incoming
from zeroshot.features.read_ahead import Ahead
from zeroshot.system.signals import Stopped, kept


def stop_as_a_lock_is_given_away(condition: threading.Condition, _timeout: float | None = None) -> bool:
    """Stand in for `Condition.wait` where the signal comes between its release of the lock and its wait."""
    condition.release()
    raise Stopped(signal.SIGTERM)


def test_a_stop_that_leaves_a_lock_behind_is_that_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`threading` raises RuntimeError there, whose context is the stop; another RuntimeError stays what it is."""
    monkeypatch.setattr(threading.Condition, "wait", stop_as_a_lock_is_given_away)
    condition = threading.Condition()
    with pytest.raises(RuntimeError, match="un-acquired"), condition:
        condition.wait()
    with pytest.raises(Stopped) as stopped, kept(), condition:
        condition.wait()
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(RuntimeError, match="another"), kept():
        raise RuntimeError("another")


def test_a_stop_while_a_path_is_waited_for_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with images that are ready: only what the paths themselves raise waits for those before it."""
    answers = iter([["a"], ["b"]])

    def take(_incoming: Incoming, _seconds: float | None = None) -> list[str]:
        if (paths := next(answers, None)) is None:
            raise Stopped(signal.SIGTERM)
        return paths

    monkeypatch.setattr(Incoming, "take", take)
    with pytest.raises(Stopped):
        next(iter(Ahead([], str, None, workers=1, most=8)))
