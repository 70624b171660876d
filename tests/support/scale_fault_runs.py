"""Runs in a store that is killed, and on Ray with processes that are, against one unbroken `classify --resume`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from support.fault_injection import Fault, Server
from support.fault_runs import LABELS, SIGNALS, Tally, make_many
from support.killed_store import KilledStore, RandomFaults
from support.object_store import misbehaving
from support.ray_cluster import processes
from unit.test_archives import make_tar, make_zip
from zeroshot.images.sources.image_names import scheme_of

_BATCH, _SHARD = 4, 8
_DRIVER_SECONDS = 600
"""After so long a driver counts as one that hangs."""


def make_inputs(folder: Path, names: str) -> list[str]:
    """Fill a folder with images and, where it is no bucket, a tar and a zip of whole batches; returns their names."""
    make_many(folder / "made", 8 * _SHARD)
    made = sorted((folder / "made").iterdir())
    content = [(f"{number:03}.png", path.read_bytes()) for number, path in enumerate(made)]
    shutil.rmtree(folder / "made")
    (folder / "imgs").mkdir()
    inputs = [f"{names}/imgs"]
    if scheme_of(names):
        images = content
    else:
        images = content[: 4 * _SHARD]
        make_tar(folder / "x.tar", content[4 * _SHARD : 6 * _SHARD])
        make_zip(folder / "x.zip", content[6 * _SHARD :])
        inputs += [f"{names}/x.tar", f"{names}/x.zip"]
    for name, image in images:
        (folder / "imgs" / name).write_bytes(image)
    return inputs


@contextmanager
def bad_store(folder: Path, seed: int) -> Iterator[tuple[KilledStore, RandomFaults, str]]:
    """Run a store over a folder, with a bucket; gives it, what goes wrong in front of it, and the address of that."""
    (folder / "bucket").mkdir(parents=True)
    store, faults = KilledStore(folder), RandomFaults(seed)
    try:
        with misbehaving(store.address, faults) as front:
            yield store, faults, front
    finally:
        store.stop()


class StoreFaultRun:
    """Stops the workers of a run whose images and folder are in a store that fails.

    Args:
        store: Over a folder with a bucket, which is filled.
        faults: In front of it.
        server: Runs the commands, in the environment of that front.
        bucket: The bucket's folder.
        tally: Where results go.
    """

    def __init__(self, store: KilledStore, faults: RandomFaults, server: Server, bucket: Path, tally: Tally) -> None:
        self._store, self._faults, self._server, self._bucket, self._tally = store, faults, server, bucket, tally
        self._options = [*make_inputs(bucket, "s3://bucket"), "--labels", LABELS, "--batch-size", str(_BATCH)]
        whole = bucket.parent.parent / "whole-in-store.jsonl"
        faults.one_in = 10**9
        ended = server.run(["classify", *self._options, "--no-cache", "--output", whole, "--resume"])
        assert ended.code == 3, ended.stderr
        faults.one_in = 12
        self._whole = whole.read_bytes()

    def try_random(self, generator: random.Random) -> None:
        """One seeded try: 1, 2 or 4 workers that share the shards or race for them, each stopped up to three times."""
        shutil.rmtree(self._bucket / "run", ignore_errors=True)
        target = self._bucket.parent.parent / "merged-from-store.jsonl"
        target.unlink(missing_ok=True)
        n = generator.choice([1, 2, 4])
        races = n > 1 and generator.random() < 0.3
        shares = [[] if races else ["--shard", f"{number}/{n}"] for number in range(1, n + 1)]
        done = [f"in a store, {n} workers{' that race' * races}"]
        work = [["run", "work", "s3://bucket/run", *share] for share in shares]
        plan = ["run", "plan", *self._options, "--into", "s3://bucket/run", "--shard-size", str(_SHARD)]
        with self._store.troubled(generator.randrange(2**32)):
            self._finish([*plan, *(["--features"] if generator.random() < 0.5 else [])], (0,), done)
            for _ in range(generator.randint(1, 3)):
                faults = [
                    Fault(kind="sleep", after_ms=generator.uniform(0, 2500), signal=generator.choice(SIGNALS))
                    for _ in shares
                ]
                ends = self._server.run_together(list(zip(work, faults, strict=True)))
                for ended, fault in zip(ends, faults, strict=True):
                    self._tally.note(ended, fault)
                    done.append(f"{fault} ({ended.code})")
            for words in work:
                self._finish(words, (0, 3), done)
            self._finish(["run", "merge", "s3://bucket/run", "--output", target], (3,), done)
        self._tally.compare(target.read_bytes() if target.exists() else b"", self._whole, done)
        self._tally.counts.update(self._store.counts + self._faults.counts)
        self._store.counts.clear()
        self._faults.counts.clear()

    def _finish(self, command: list[Any], codes: tuple[int, ...], done: list[str]) -> None:
        ended = self._server.run(command)
        self._tally.expect(ended.code in codes and not ended.crashed, f"{ended}: {done}")


class RayFaultRun:
    """Kills actors, readers and the driver of a run on Ray, and its store where it is in one.

    Args:
        cluster: The environment that reaches it.
        base: A folder to work in.
        tally: Where results go.
        store: In whose environment the cluster was started, and the folder of its bucket, which is filled; None for a
            disk.
    """

    def __init__(
        self, cluster: dict[str, str], base: Path, tally: Tally, store: tuple[KilledStore, Path] | None = None
    ) -> None:
        self._cluster, self._tally, self._store = cluster, tally, store[0] if store else None
        self._base = base / ("ray-in-store" if store else "ray")
        self._at = store[1] if store else self._base / "disk"
        for folder in (self._base, self._at):
            folder.mkdir(exist_ok=True)
        self._names = "s3://bucket" if store else str(self._at)
        options = [*make_inputs(self._at, self._names), "--labels", LABELS, "--model", "tiny"]
        options += ["--batch-size", str(_BATCH)]
        self._run(0, "run", "plan", *options, "--into", f"{self._names}/planned", "--shard-size", str(_SHARD))
        whole = self._base / "whole.jsonl"
        self._run(3, "classify", *options, "--no-cache", "--output", str(whole), "--resume")
        self._whole = whole.read_bytes()

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "zeroshot", *words],
            env=os.environ | self._cluster,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _run(self, code: int, *words: str) -> None:
        process = self._start(*words)
        _, complaints = process.communicate(timeout=_DRIVER_SECONDS)
        assert process.returncode == code, complaints

    def try_random(self, generator: random.Random) -> None:
        """One seeded try: 1, 2 or 4 actors, up to four processes killed, then the same command until it is done."""
        shutil.rmtree(self._at / "run", ignore_errors=True)
        shutil.copytree(self._at / "planned", self._at / "run")
        target = self._base / "merged.jsonl"
        target.unlink(missing_ok=True)
        actors = generator.choice(["1", "2", "4"])
        work = ("run", "work", f"{self._names}/run", "--on", "ray", "--actors", actors)
        done = [f"{actors} actors{' on a store' if self._store else ''}"]
        trouble: AbstractContextManager[None] = nullcontext()
        if self._store:
            trouble = self._store.troubled(generator.randrange(2**32))
        with trouble:
            driver = self._start(*work)
            for _ in range(generator.randint(1, 4)):
                if driver.poll() is not None:
                    driver = self._ended(driver, done, self._start(*work))
                self._kill(driver, generator, done)
            while (driver.wait(_DRIVER_SECONDS) if driver.poll() is None else driver.returncode) not in (0, 3):
                driver = self._ended(driver, done, self._start(*work))
                if len(self._tally.problems) > 50:
                    return
            self._ended(driver, done, driver)
            self._run(3, "run", "merge", f"{self._names}/run", "--output", str(target))
        self._tally.compare(target.read_bytes() if target.exists() else b"", self._whole, done)
        if self._store:
            self._tally.counts.update(self._store.counts)
            self._store.counts.clear()

    def _kill(self, driver: subprocess.Popen[str], generator: random.Random, done: list[str]) -> None:
        """Kill one process, as soon as some more shards are committed."""
        victim = generator.choice(["ray::_Processor", "ray::_Processor", "ray::_read", "driver"])
        wanted = self._committed() + generator.randint(0, 2)
        begun = time.monotonic()
        while driver.poll() is None and (self._committed() < wanted or not self._pids(victim)):
            time.sleep(0.02)
            if time.monotonic() - begun > _DRIVER_SECONDS:
                self._tally.expect(False, f"the driver hangs: {done}")
                driver.kill()
        time.sleep(generator.uniform(0, 0.3))
        if driver.poll() is not None:
            return
        self._tally.tries += 1
        number = generator.choice(SIGNALS) if victim == "driver" else signal.SIGKILL
        if victim == "driver":
            driver.send_signal(number)
            self._tally.stopped += driver.wait(_DRIVER_SECONDS) not in (0, 3)
            self._tally.counts["drivers stopped"] += 1
        elif pids := self._pids(victim):
            os.kill(generator.choice(pids), signal.SIGKILL)
            self._tally.stopped += 1
            self._tally.counts["actors killed" if victim.endswith("Processor") else "readers killed"] += 1
        done.append(f"{victim}: {signal.Signals(number).name}")

    def _pids(self, name: str) -> list[int]:
        return [0] if name == "driver" else processes(self._cluster, name)

    def _committed(self) -> int:
        there = self._at / "run" / "done"
        return len(list(there.glob("*.done"))) if there.is_dir() else 0

    def _ended(
        self, driver: subprocess.Popen[str], done: list[str], following: subprocess.Popen[str]
    ) -> subprocess.Popen[str]:
        """Look how a driver ended, and return the one that follows."""
        told, complaints = driver.communicate()
        crashed = "Traceback" in complaints or driver.returncode in (-signal.SIGSEGV, -signal.SIGABRT)
        self._tally.counts["crashes"] += crashed
        expected = (0, 3, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
        self._tally.expect(not told, f"on stdout: {told[-1000:]}: {done}")
        self._tally.expect(not crashed, f"crash: {complaints[-2000:]}: {done}")
        self._tally.expect(driver.returncode in expected, f"code {driver.returncode}, {complaints[-2000:]}: {done}")
        return following
