"""Measures how busy the workers of a run are kept: they sleep 50 ms for 32 images instead of reading and encoding them.

    python benchmarks/worker_idle_time.py [--on local,ray] [--workers 1,2,8,32] [--images FOLDER]

Workers have a share of the shards each (`--shard I/N`), or a Ray cluster of this machine deals them out. A line for
each number: the seconds that sleeping alone would take, over those from the moment that all workers are ready to the
last commit that the driver knows of. Lists, records, parts and commits are real ones. With `--images` those of a folder
are read and decoded too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot import load_encoder, load_templates, parse_labels
from zeroshot.distribute import on_ray
from zeroshot.distribute.executors import Local, find_waiting
from zeroshot.distribute.plan import load_plan, write_plan
from zeroshot.distribute.recipe import RunRecipe, facts_of, parse_recipe
from zeroshot.distribute.run_folder import open_folder
from zeroshot.distribute.work import Encode, Machine, build_worker
from zeroshot.encoder import Encoder, Features, Pixels
from zeroshot.features.pipeline import Encoded, encode_batches
from zeroshot.images.paths import find_images

_BATCH, _SECONDS = 32, 0.05


class Sleeper:
    """An encoder that sleeps.

    Args:
        encoder: The one that it stands for.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.spec = encoder.spec
        self.encode_texts, self.count_tokens = encoder.encode_texts, encoder.count_tokens
        self._row = np.full(encoder.spec.dim, encoder.spec.dim**-0.5, dtype=np.float32)

    def encode_images(self, pixels: Pixels) -> Features:
        """Return the same row for each image, after a while."""
        time.sleep(_SECONDS * len(pixels) / _BATCH)
        return np.stack([self._row] * len(pixels))

    def encode_unread(self, names: Iterable[str]) -> Iterator[list[Encoded]]:
        """Yield batches of images that nobody looks for."""
        names = iter(names)
        while batch := list(islice(names, _BATCH)):
            time.sleep(_SECONDS)
            yield [Encoded(name, self._row) for name in batch]


class SleepingProcessor(on_ray._Processor):
    """An actor that sleeps, and begins when all others are there.

    Args:
        given: As its base has them.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._where, self._count, self._reads = os.environ["BENCHMARK_READY"].split("|")

    def _build(self) -> Any:
        made = super()._build()
        meet(Path(self._where), int(self._count))
        return made

    def _encode_with(self, recipe: RunRecipe, encoder: Encoder) -> Encode:
        sleeper = Sleeper(encoder)
        return super()._encode_with(recipe, sleeper) if self._reads else sleeper.encode_unread


def meet(place: Path, count: int) -> None:
    """Wait until so many workers are here."""
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < count:
        time.sleep(0.01)


class Before(threading.Thread):
    """Notes the processor's seconds at the moment when all workers are ready.

    Attributes:
        used: These seconds.
    """

    def __init__(self, place: Path, count: int) -> None:
        super().__init__(daemon=True)
        self._place, self._count = place, count
        self.used = 0.0
        self.start()

    def run(self) -> None:
        """Wait for them."""
        while len(list(self._place.iterdir())) < self._count:
            time.sleep(0.05)
        self.used = processor_seconds()


def processor_seconds() -> float:
    """Return the seconds of the processor of this process and of all processes below it, ended ones too."""
    rows: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            rows[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    ours = {os.getpid()}
    while more := {pid for pid, (parent, _) in rows.items() if parent in ours} - ours:
        ours |= more
    return sum(rows[pid][1] for pid in ours if pid in rows)


def make_recipe() -> RunRecipe:
    """Return the recipe of a run of the built-in checkpoint."""
    return RunRecipe(
        {"model": "tiny", "pretrained": None, "preprocessing": None},
        facts_of(load_encoder("tiny").spec),
        parse_labels("cat,dog,bridge,boat"),
        load_templates("photo"),
        batch_size=_BATCH,
    )


def work_locally(run: str, share: tuple[int, int], ready: Path, *, reads: bool) -> None:
    """Be one of several workers, and say when it was done."""
    folder = open_folder(run)
    plan = load_plan(folder)
    recipe, machine = parse_recipe(plan.recipe), Machine()

    def encode_with(encoder: Encoder) -> Encode:
        sleeper = Sleeper(encoder)
        reading = partial(encode_batches, sleeper, pipeline=machine.pipeline(recipe))
        return reading if reads else sleeper.encode_unread

    worker = build_worker(folder, plan, recipe, machine, encode_with=encode_with)
    meet(ready, share[1])
    for _ in Local(folder, plan, worker).run(find_waiting(folder, plan, share), lambda _: None):
        pass
    print(time.time())


def run_locally(run: str, count: int, ready: Path, *, reads: bool) -> tuple[float, float]:
    """Have a share processed by each of several processes; gives when the last was done, and processor seconds."""
    words = [sys.executable, __file__, "--run", run, "--ready", str(ready), *(["--reads"] if reads else [])]
    processes = [
        subprocess.Popen([*words, "--share", f"{number}/{count}"], stdout=subprocess.PIPE, text=True)
        for number in range(1, count + 1)
    ]
    ends = [float(process.communicate()[0]) for process in processes]
    return max(ends), processor_seconds()


def run_on_ray(run: str, count: int, ready: Path, *, reads: bool) -> tuple[float, float]:
    """Have it processed by a Ray cluster of this machine; gives when the driver knew of all, and processor seconds."""
    os.environ["BENCHMARK_READY"] = f"{ready}|{count}|{'reads' if reads else ''}"
    os.environ |= {"RAY_worker_register_timeout_seconds": "600", "RAY_raylet_start_wait_time_s": "300"}
    on_ray._Processor = SleepingProcessor  # type: ignore[misc]
    folder = open_folder(run)
    plan = load_plan(folder)
    cluster = on_ray.Cluster(actors=count)
    executor = on_ray.OnRay(folder, plan, Machine(), cluster, lambda line: print(line, file=sys.stderr))
    end = used = 0.0
    for _ in executor.run(waiting := find_waiting(folder, plan), lambda _: None):
        waiting.pop()
        if not waiting:
            end, used = time.time(), processor_seconds()
    return end, used


def measure(executor: str, count: int, per_worker: int, size: int, images: list[str]) -> str:
    """Process a run with so many workers, and say what part of the time they slept."""
    total = count * per_worker * size
    names = islice(cycle(images), total) if images else (f"{number:09}.jpg" for number in range(total))
    with tempfile.TemporaryDirectory() as place:
        run, ready = str(Path(place) / "run"), Path(place) / "ready"
        ready.mkdir()
        write_plan(open_folder(run), make_recipe().document(), names, size)
        before = Before(ready, count)
        end, used = {"local": run_locally, "ray": run_on_ray}[executor](run, count, ready, reads=bool(images))
        seconds, used = end - max(path.stat().st_mtime for path in ready.iterdir()), used - before.used
    asleep = total / _BATCH * _SECONDS / count
    return (
        f"{executor:5} {count:3} workers, {count * per_worker:4} shards of {size:,}: efficiency {asleep / seconds:.3f}"
        f" ({seconds:.1f} s, {total / seconds:,.0f} images/s, {1e6 * used / total:.0f} us of the processor per image,"
        f" {used / asleep:.2f} cores at full speed; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", default="local,ray", help="executors")
    parser.add_argument("--workers", default="1,2,8,32", help="numbers of them")
    parser.add_argument("--shards", type=int, default=8, help="for each worker")
    parser.add_argument("--shard-size", type=int, default=30 * _BATCH)
    parser.add_argument("--images", type=Path, help="read the images of this folder too, again and again")
    for name in ("--run", "--share", "--ready"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--reads", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.share:
        part, _, parts = options.share.partition("/")
        return work_locally(options.run, (int(part), int(parts)), Path(options.ready), reads=options.reads)
    images = sorted(find_images([str(options.images)])) if options.images else []
    for executor in options.on.split(","):
        for count in map(int, options.workers.split(",")):
            print(measure(executor, count, options.shards, options.shard_size, images), flush=True)
    return None


if __name__ == "__main__":
    main()
