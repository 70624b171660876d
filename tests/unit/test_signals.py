"""A signal that stops a run is neither lost nor taken for an error, wherever in the program it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from zeroshot.errors import InputError
from zeroshot.features.path_queue import Incoming
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


def test_a_stop_amid_the_start_of_a_c_module_is_that_stop() -> None:
    """It says that it could not be initialised, with the stop behind it, and others that a package is missing."""
    with pytest.raises(Stopped), kept():
        try:
            try:
                raise Stopped(signal.SIGTERM)
            except Stopped as stop:
                raise ImportError("initialization failed") from stop
        except ImportError as error:
            raise InputError("needs a package", "install it") from error
    with pytest.raises(InputError, match="disk"), kept():  # a fault while a stop is handled is told
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise InputError("the disk is full", "free some space")  # noqa: B904


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


WAITING = """
import signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from zeroshot.__main__ import main
import zeroshot.system.signals

def work():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.01)
    print("over", flush=True)
    threading.Event().wait()

ThreadPoolExecutor(1).submit(work)
sys.argv = ["zeroshot", "--version"]
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
def test_a_second_signal_ends_what_waits_for_its_threads() -> None:
    """The command is over and the interpreter waits for a thread: the signal ends it, and shows no traceback."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it ignored
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    timer = threading.Timer(30, process.kill)
    timer.start()
    assert process.stdout is not None
    while process.stdout.readline().strip() not in (b"over", b""):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    timer.cancel()
    assert (process.returncode, err) == (130, b"")
