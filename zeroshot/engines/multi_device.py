"""One model on several devices: a process each, and whichever is free takes the next batch.

It is an encoder like any other; the pipeline hands it batches ahead and takes their features in order, so that what
comes out is what one device gives. A process sees its own device alone.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from ..encoder import Encoder, EncoderSpec, Features, Pixels
from ..enums import Device
from ..errors import ResourceError, ZeroshotError
from ..system.accelerators import Devices, show_only

Load = Callable[[Callable[[str], None]], Encoder]
"""Loads the model in a process of its own, told what to warn with; it is pickled."""


def load_on_several(devices: Devices, warn: Callable[[str], None] = lambda _: None, **options: Any) -> SeveralDevices:
    """Load a model on each of several devices.

    Args:
        devices: Where.
        warn: Told, in one line, what loading warns of.
        options: As of `choose.load_encoder`.

    Raises:
        ZeroshotError: As `choose.load_encoder`.
    """
    loads: list[tuple[str, Load]] = [
        (f"{devices.kind}:{index}", partial(_load, devices.kind, index, options)) for index in devices.indices
    ]
    return SeveralDevices(loads, warn)


def _load(kind: Device, index: int, options: dict[str, Any], warn: Callable[[str], None]) -> Encoder:
    show_only(kind, index)
    from .choose import load_encoder

    return load_encoder(device=kind, warn=warn, **options)


class SeveralDevices:
    """An encoder whose batches are encoded by several processes.

    Args:
        loads: Name of each device, and what loads the model there.
        warn: Told, once each, what loading warns of.

    Raises:
        ZeroshotError: The model cannot be loaded on one of them.
    """

    def __init__(self, loads: Sequence[tuple[str, Load]], warn: Callable[[str], None] = lambda _: None) -> None:
        self._batches: queue.SimpleQueue[tuple[Pixels, Future[Features]]] = queue.SimpleQueue()
        self._processes = [_Process(name, load) for name, load in loads]
        told: set[str] = set()
        for process in self._processes:
            self._spec, warnings = process.begin()
            for line in warnings:
                if line not in told:
                    warn(line)
                told.add(line)
        for process in self._processes:
            # Daemons: a device that hangs must not keep the program from ending.
            threading.Thread(target=self._work, args=(process,), name=process.name, daemon=True).start()

    @property
    def spec(self) -> EncoderSpec:
        """The facts about the loaded model, as of one device."""
        return self._spec

    @property
    def n_devices(self) -> int:
        """How many batches are encoded at the same time."""
        return len(self._processes)

    def submit(self, pixels: Pixels) -> Future[Features]:
        """Have a batch encoded by the next device that is free, as `Encoder.encode_images`."""
        made: Future[Features] = Future()
        self._batches.put((pixels, made))
        return made

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode a batch and wait for it, as `Encoder.encode_images`."""
        return self.submit(pixels).result()

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences on the first device, as `Encoder.encode_texts`."""
        rows: Features = self._processes[0].call("encode_texts", list(texts))
        return rows

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens, as `Encoder.count_tokens`."""
        counts: list[int] = self._processes[0].call("count_tokens", list(texts))
        return counts

    def _work(self, process: _Process) -> None:
        while True:
            pixels, made = self._batches.get()
            try:
                made.set_result(process.call("encode_images", pixels))
            except BaseException as error:  # for whoever waits for the batch
                made.set_exception(error)


class _Process:
    """A process with the model on one device, as its parent uses it; it ends with its parent."""

    def __init__(self, name: str, load: Load) -> None:
        self.name = name
        self._lock = threading.Lock()
        context = multiprocessing.get_context("spawn")  # a fork would share what CUDA and threads hold
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, load), name=name, daemon=True)
        self._process.start()
        theirs.close()

    def begin(self) -> tuple[EncoderSpec, list[str]]:
        """Wait until the model is loaded; gives its facts, and what there is to warn of."""
        begun: tuple[EncoderSpec, list[str]] = self._receive()
        return begun

    def call(self, method: str, argument: Any) -> Any:
        """Have a method of the encoder called there.

        Raises:
            ResourceError: The process has ended.
            Exception: What the method raised.
        """
        with self._lock:
            with suppress(OSError):  # it has ended, as is found when its answer is read
                self._connection.send((method, argument))
            return self._receive()

    def _receive(self) -> Any:
        try:
            succeeded, result = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            code = self._process.exitcode
            how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
            raise ResourceError(
                f"the process that encodes on {self.name} ended ({how})", "leave that device out of --device"
            ) from error
        if not succeeded:
            raise result
        return result


def _serve(connection: Connection, load: Load) -> None:
    """Run as the process of a device, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which decides
    warnings: list[str] = []
    encoder: Encoder | None = None

    def answer(make: Callable[[], Any]) -> None:
        try:
            made = (True, make())
        except Exception as error:
            if not isinstance(error, ZeroshotError):  # a bug keeps its traceback
                error.add_note(f"in the process of a device:\n{traceback.format_exc()}")
            made = (False, _as_pickled(error))
        connection.send(made)

    def begin() -> tuple[EncoderSpec, list[str]]:
        nonlocal encoder
        encoder = load(warnings.append)
        return encoder.spec, warnings

    with suppress(EOFError, OSError):
        answer(begin)
        while encoder is not None:
            method, argument = connection.recv()
            answer(partial(getattr(encoder, method), argument))
    os._exit(0)  # nothing is left to be tidied up, and threads of the engine need not be waited for


def _as_pickled(error: Exception) -> Exception:
    """Return an error that reaches another process: itself where it can be pickled, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
