"""Planning of millions of synthetic keys, and how soon a run that is 99 % done begins again.

    python benchmarks/planning.py 1000000 10000000 [--shard-size 10000] [--restarts 3]

Prints a line for each number: seconds on the wall and of this process's CPU, peak memory, the same for finding the
shards that are left, and how long `run work` takes from its start to the first new shard, the model loaded: every
restart is a process of its own. Says on stderr how far it is, at each million.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import compiled
from worker_idle_time import make_recipe

from zeroshot.distribute.commits import done_name
from zeroshot.distribute.executors import find_waiting
from zeroshot.distribute.plan import SHARD_SIZE, load_plan, read_shard, write_plan
from zeroshot.distribute.run_folder import LocalFolder
from zeroshot.images.paths import find_entries

_RESTART = """
import os, time
from zeroshot.distribute.work import Worker
def process(*_):
    print(time.time(), flush=True)
    os._exit(0)
Worker.process = process
from zeroshot.__main__ import main
main()
"""


class _Told:
    def __init__(self) -> None:
        self._count = 0

    def __call__(self, more: int) -> None:
        before, self._count = self._count, self._count + more
        if before // 1_000_000 < self._count // 1_000_000:
            print(f"{self._count:,} keys", file=sys.stderr, flush=True)


def measure(count: int, shard_size: int, restarts: int) -> str:
    recipe = make_recipe().document()
    with tempfile.TemporaryDirectory() as place:
        folder = LocalFolder(place)
        keys = (f"s3://bucket/images/{number // 1000:06d}/{number:09d}.jpg" for number in range(count))
        wall, cpu = time.perf_counter(), time.process_time()
        plan = write_plan(folder, recipe, find_entries(keys), shard_size, on_progress=_Told())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        done = Path(place) / "done"
        done.mkdir()
        for number in range(len(plan.shards) * 99 // 100):
            (Path(place) / done_name(number)).touch()
        again, again_cpu = time.perf_counter(), time.process_time()
        loaded = load_plan(folder)
        waiting = find_waiting(folder, loaded)
        read_shard(folder, loaded, waiting[0])
        again, again_cpu = time.perf_counter() - again, time.process_time() - again_cpu
        begun = ", ".join(_restart(place) for _ in range(restarts))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{count:>11,} keys: planned in {wall:.1f} s ({cpu:.1f} s of CPU), {memory:.0f} MB at most;"
        f" {len(waiting)} of {len(plan.shards):,} shards left, found in {again:.2f} s ({again_cpu:.2f} s of CPU);"
        f" `run work` begins with the first of them after {begun}; load {os.getloadavg()[0]:.1f}"
    )


def _restart(place: str) -> str:
    """Run `run work` until its first shard begins; gives seconds by the clock and of the processor, in words."""
    words = [sys.executable, "-c", _RESTART, "run", "work", place]
    begin, before = time.time(), os.times()
    clock = float(subprocess.run(words, stdout=subprocess.PIPE, text=True, env=compiled(), check=True).stdout) - begin
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return f"{clock:.2f} s ({cpu:.2f} s of CPU)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+", help="numbers of keys")
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE)
    parser.add_argument("--restarts", type=int, default=3, help="how often `run work` is started")
    options = parser.parse_args()
    for count in options.counts:
        print(measure(count, options.shard_size, options.restarts), flush=True)


if __name__ == "__main__":
    main()
