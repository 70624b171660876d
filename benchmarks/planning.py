"""Planning of millions of synthetic keys, and how soon a run that is 99 % done begins again.

    python benchmarks/planning.py 1000000 10000000

Prints a line for each number: seconds on the wall and of this process's CPU, peak memory, the same for finding the
shards that are left, and how long `run work` takes from its start to the first new shard, the model loaded. Says on
stderr how far it is, at each million.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from efficiency import make_recipe
from measure import compiled

from zeroshot.distribute.commits import done_name
from zeroshot.distribute.executors import find_waiting
from zeroshot.distribute.folder import LocalFolder
from zeroshot.distribute.plan import load_plan, read_shard, write_plan
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


def measure(count: int) -> str:
    recipe = make_recipe().document()
    with tempfile.TemporaryDirectory() as place:
        folder = LocalFolder(place)
        keys = (f"s3://bucket/images/{number // 1000:06d}/{number:09d}.jpg" for number in range(count))
        wall, cpu = time.perf_counter(), time.process_time()
        plan = write_plan(folder, recipe, find_entries(keys), on_progress=_Told())
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
        words = [sys.executable, "-c", _RESTART, "run", "work", place]
        begin, before = time.time(), os.times()
        begun = float(subprocess.run(words, capture_output=True, text=True, env=compiled()).stdout) - begin
        after = os.times()
        begun_cpu = after.children_user + after.children_system - before.children_user - before.children_system
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{count:>11,} keys: planned in {wall:.1f} s ({cpu:.1f} s of CPU), {memory:.0f} MB at most;"
        f" {len(waiting)} shards left found in {again:.2f} s ({again_cpu:.2f} s of CPU); `run work` begins with the"
        f" first of them after {begun:.1f} s ({begun_cpu:.1f} s of CPU)"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(measure(int(argument)), flush=True)
