"""Simulates machines of 4 to 64 cores: the real pipeline, with a decoder and an encoder that sleep.

    python benchmarks/simulated_cores.py [--cores 4,8,16,32,64] [--all]

An image takes so many milliseconds of one core to decode and resize, and to encode. Assumed of scaling: t threads
encode t or t^0.9 times as fast as one, and in int8, where each thread has rows of its own, t times. Two machines
bound a real one. `shared`: what runs has equal shares of the cores, as an ideal kernel deals them out. `held`: a
decoder holds a core until its image is made, and the encoder waits until it holds one for each of its threads. Time
is stretched until 80 images would go through in a second, so that what Python takes is no part of it; the last line
says what that is.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from bisect import insort
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, groupby, product, repeat
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
from benchmark_inputs import Material
from measure import Row

from zeroshot import load_encoder
from zeroshot.encoder import Encoder, Features, Pixels
from zeroshot.engines.onnx_engine import best_batch
from zeroshot.features import pipeline as pipelines

COUNTS = (4, 8, 16, 32, 64)
_RATE = 80  # images that go through in a second, whatever the machine
_WARM, _MEASURED = 160, 256  # images


@dataclass(frozen=True, slots=True)
class Load:
    """What an image takes.

    Attributes:
        name: Of the model.
        decode: Seconds of a core to decode and resize it.
        encode: Seconds of a core to encode it.
        alone: A row is encoded by one thread, as many rows at once as there are threads (int8).
    """

    name: str
    decode: float
    encode: float
    alone: bool = False


LOADS = (
    Load("tiny", 0.0053, 0.013),
    Load("ViT-B-32", 0.0053, 0.080),
    Load("ViT-B-32 int8", 0.0053, 0.040, alone=True),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One simulated run.

    Attributes:
        cores: Of the machine.
        load: What an image takes.
        power: t threads encode t^power times as fast as one.
        held: Cores are held, not shared.
        split: Name of the choice of threads and workers.
        threads: Of the encoder, for each batch.
        workers: That decode.
        batch: Images encoded together.
        at_once: Batches that are encoded at the same time.
    """

    cores: int
    load: Load
    power: float
    held: bool
    split: str
    threads: int
    workers: int
    batch: int
    at_once: int = 1

    @property
    def ideal(self) -> float:
        """Images a second where every core always works and threads cost nothing."""
        return self.cores / (self.load.decode + self.load.encode)


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to.

    Attributes:
        rate: Images a second.
        queue: Images that were ready and waited, on average.
        encoder_idle: Share of the time in which the encoder had no batch.
        decoders_idle: Share of the workers' time in which they had no image.
    """

    rate: float
    queue: float
    encoder_idle: float
    decoders_idle: float


class Cores(Protocol):
    """Cores that threads work on."""

    def work(self, seconds: float, threads: int) -> None:
        """Keep so many threads busy, each for as long as it would take on a core of its own."""


class Held:
    """Cores that are held until the work is done; whoever waits for several has those that become free.

    Args:
        cores: How many.
    """

    def __init__(self, cores: int) -> None:
        self._free, self._turn = threading.Semaphore(cores), threading.Lock()

    def work(self, seconds: float, threads: int) -> None:
        """See `Cores`."""
        with self._turn:
            for _ in range(threads):
                self._free.acquire()
        time.sleep(seconds)
        self._free.release(threads)


class Shared:
    """Cores of which each running thread has the same share, and no more than one.

    Args:
        cores: How many.
    """

    def __init__(self, cores: int) -> None:
        self._cores, self._running = cores, 0
        self._lock, self._numbers = threading.Lock(), count()
        self._done, self._at = 0.0, time.perf_counter()  # what a thread that always ran would have done, until when
        self._ends: list[tuple[float, int, threading.Condition]] = []

    def work(self, seconds: float, threads: int) -> None:
        """See `Cores`."""
        with self._lock:
            self._pass()
            self._running += threads
            mine = (self._done + seconds, next(self._numbers), threading.Condition(self._lock))
            insort(self._ends, mine)
            while (left := mine[0] - self._done) > 1e-6:
                mine[2].wait(left * max(1.0, self._running / self._cores))
                self._pass()
            self._ends.remove(mine)
            self._running -= threads
            if self._ends:  # may end sooner than it thought; the others are told by whoever ends before them
                self._ends[0][2].notify()

    def _pass(self) -> None:
        now = time.perf_counter()
        self._done += (now - self._at) * min(1.0, self._cores / max(1, self._running))
        self._at = now


class Clock:
    """Adds up a number that changes, over time."""

    def __init__(self) -> None:
        self._lock, self._value, self._sum, self._at = threading.Lock(), 0, 0.0, time.perf_counter()

    def add(self, change: int) -> float:
        """Change the number; gives its integral so far."""
        with self._lock:
            now = time.perf_counter()
            self._sum += self._value * (now - self._at)
            self._value, self._at = self._value + change, now
            return self._sum


class Machine:
    """An encoder and a decoder that sleep, on cores that are simulated.

    Args:
        case: Says how long.
        stretch: Seconds that pass for one that is simulated.
    """

    def __init__(self, case: Case, stretch: float) -> None:
        encoder, self._case, self._stretch = _tiny(), case, stretch
        self.encode_texts, self.count_tokens, self.spec = encoder.encode_texts, encoder.count_tokens, encoder.spec
        self._cores: Cores = Held(case.cores) if case.held else Shared(case.cores)
        size = self.spec.preprocessing.size if stretch == 0 else (1, 1)  # nobody looks at them
        self._pixels = np.zeros((*size, 3), dtype=np.uint8)
        self._row = np.full(self.spec.dim, self.spec.dim**-0.5, dtype=np.float32)
        self.ready, self.encoding, self.decoding = Clock(), Clock(), Clock()

    def read(self, *_: Any, **__: Any) -> Pixels:
        """Return the same pixels for each file, after a while."""
        self.decoding.add(1)
        self._cores.work(self._case.load.decode * self._stretch, 1)
        self.decoding.add(-1)
        self.ready.add(1)
        return self._pixels

    def encode_images(self, pixels: Pixels) -> Features:
        """Return the same row for each image, after a while."""
        self.ready.add(-len(pixels))
        self.encoding.add(1)
        load, threads = self._case.load, self._case.threads
        if load.alone:
            for start in range(0, len(pixels), threads):
                self._cores.work(load.encode * self._stretch, min(threads, len(pixels) - start))
        else:
            self._cores.work(load.encode * len(pixels) / threads**self._case.power * self._stretch, threads)
        self.encoding.add(-1)
        return np.stack([self._row] * len(pixels))


class SeveralAtOnce(Machine):
    """A machine that encodes several batches at the same time."""

    def __init__(self, case: Case, stretch: float) -> None:
        super().__init__(case, stretch)
        self.n_devices = case.at_once
        self._pool = ThreadPoolExecutor(case.at_once)

    def submit(self, pixels: Pixels) -> Future[Features]:
        """Begin to encode a batch."""
        return self._pool.submit(self.encode_images, pixels)


@cache
def _tiny() -> Encoder:
    return load_encoder("tiny")


def simulate(case: Case, rate: float | None = _RATE) -> Found:
    """Run the pipeline over one small file again and again.

    Args:
        case: What is simulated.
        rate: Images that go through in a second; None for nothing that sleeps.
    """
    stretch = case.ideal / rate if rate else 0.0
    machine = (Machine if case.at_once == 1 else SeveralAtOnce)(case, stretch)
    marks: list[tuple[float, float, float, float]] = []
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "image"
        file.write_bytes(b"not looked at")
        stack.enter_context(mock.patch.object(pipelines, "read_pixels", machine.read))
        batches = pipelines.encode_batches(
            machine, repeat(str(file)), pipelines.Pipeline(case.batch, case.workers, fixed_batches=True)
        )
        warm = -(-_WARM // case.batch)
        for _ in range(warm + -(-_MEASURED // case.batch) + 1):
            if any(item.features is None for item in next(batches)):
                raise RuntimeError("an image was not read")
            sums = (machine.ready.add(0), machine.encoding.add(0), machine.decoding.add(0))
            marks.append((time.perf_counter(), *sums))
        batches.close()  # type: ignore[attr-defined]
    passed, ready, encoding, decoding = (last - first for first, last in zip(marks[warm], marks[-1], strict=True))
    images = (len(marks) - 1 - warm) * case.batch
    idle = (1 - encoding / passed / case.at_once, 1 - decoding / passed / case.workers)
    return Found(images / passed * (stretch or 1.0), ready / passed, *idle)


def cases(counts: Sequence[int]) -> Iterator[Case]:
    """Yield the choice of the program for each machine and load, and others."""
    machines = ((1.0, False), (0.9, False), (0.9, True))
    for cores, load, (power, held) in product(counts, LOADS, machines):
        if load.alone:
            if not held and power < 1:
                continue
            power = 1.0  # no thread waits for another
        batch = best_batch(cores, alone=load.alone)
        work = load.encode * cores ** (1 - power)
        decoders = max(1, round(cores * load.decode / (load.decode + work)))
        make = partial(Case, cores, load, power, held)
        yield make("program", cores, cores, batch)
        yield make("by work", cores - decoders, decoders, batch)
        yield make("fewer threads", cores - max(1, cores // 8), cores, batch)
        if load.alone:
            yield make("batches of 32", cores, cores, 32)
        else:
            yield make("two at once", cores // 2, cores, batch, 2)


def run(counts: Sequence[int]) -> list[list[tuple[Case, Found]]]:
    """Return what each choice comes to, the program's first, machine by machine."""
    todo = list(cases(counts))
    _tiny()  # before the processes, which have it then
    with ProcessPoolExecutor(32) as pool:
        found = list(zip(todo, pool.map(simulate, todo), strict=True))
    return [list(group) for _, group in groupby(found, lambda one: row_name(one[0]))]


def row_name(case: Case) -> str:
    """Return what tells a machine and its load from others."""
    return f"{case.cores} cores, {'held' if case.held else 'shared'}, t^{case.power:g}, {case.load.name}"


def cores(_: Material, quick: bool) -> Iterator[Row]:
    """Machines of 4 to 64 cores, simulated: seconds for 1,000 images of the program, and of the best choice."""
    for group in run(COUNTS[-1:] if quick else COUNTS):
        case, found = group[0]
        best, most = max(group, key=lambda one: one[1].rate)
        title = f"simulated: {row_name(case)} ({found.rate:.0f} of {case.ideal:.0f} images/s; best: {best.split})"
        bar = "" if case.held else ">= 0.9"
        yield Row(title + ": the program / the best", 1000 / found.rate, 1000 / most.rate, bar, found.rate / most.rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default=",".join(map(str, COUNTS)))
    parser.add_argument("--all", action="store_true", help="the other choices too")
    options = parser.parse_args()
    print(f"{'':37}{'choice':13} threads workers  images/s of ideal  queue  idle: encoder decoders")
    for group in run([int(word) for word in options.cores.split(",")]):
        best = max(group, key=lambda one: one[1].rate)
        for case, found in group if options.all else [group[0], *([best] if best is not group[0] else [])]:
            print(
                f"{row_name(case):37}{case.split:13} {case.threads:7} {case.workers:7} {found.rate:9.0f}"
                f"{found.rate / case.ideal:9.2f} {found.queue:6.1f}"
                f"{found.encoder_idle:15.2f} {found.decoders_idle:8.2f}",
                flush=True,
            )
    python = simulate(Case(2, LOADS[0], 1.0, False, "", 2, 2, 32), None)
    print(f"with nothing that sleeps: {1000 / python.rate:.2f} ms per image")


if __name__ == "__main__":
    main()
