"""Planning of millions of synthetic keys, and how soon a run that is 99 % done begins again.

    python benchmarks/planning.py 1000000 10000000

Prints a line for each number: seconds on the wall and of this process's CPU, peak memory, and the same for finding the
shards that are left. Says on stderr how far it is, at each million.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from zeroshot.distribute.commits import done_name
from zeroshot.distribute.executors import find_waiting
from zeroshot.distribute.folder import LocalFolder
from zeroshot.distribute.plan import load_plan, read_shard, write_plan
from zeroshot.images.paths import find_entries


class _Told:
    def __init__(self) -> None:
        self._count = 0

    def __call__(self, more: int) -> None:
        before, self._count = self._count, self._count + more
        if before // 1_000_000 < self._count // 1_000_000:
            print(f"{self._count:,} keys", file=sys.stderr, flush=True)


def measure(count: int) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = LocalFolder(place)
        keys = (f"s3://bucket/images/{number // 1000:06d}/{number:09d}.jpg" for number in range(count))
        wall, cpu = time.perf_counter(), time.process_time()
        plan = write_plan(folder, {"recipe": "none"}, find_entries(keys), on_progress=_Told())
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
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{count:>11,} keys: planned in {wall:.1f} s ({cpu:.1f} s of CPU), {memory:.0f} MB at most;"
        f" {len(waiting)} shards left found in {again:.2f} s ({again_cpu:.2f} s of CPU)"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(measure(int(argument)), flush=True)
