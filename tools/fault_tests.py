"""The long version of tests/faults/: minutes, one command, a table at the end.

    python tools/fault_tests.py [--sort 150] [--resume 150] [--runs 60] [--cache 60] [--images 1] [--every-moment]
    python tools/fault_tests.py --only-named --runs 20 --store 20 --ray 10 --ray-store 10

Each number is how many seeded tries are made; ``--every-moment`` also kills sorting before, in and during the undo of
every single call that changes the file system. ``--store`` kills a store under a run, ``--ray`` processes of a cluster
on this machine, ``--ray-store`` both: they need the extra `scale-test`. Exits 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.corpus import open_all
from support.fault_injection import Server
from support.fault_runs import CacheFaultRun, ResumeFaultRun, ShardsFaultRun, SortFaultRun, Tally
from support.ray_cluster import ray_cluster
from support.scale_fault_runs import RayFaultRun, StoreFaultRun, bad_store


def main() -> int:
    """Run every kind of fault test, print what was tried and what was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name, count in (("sort", 150), ("resume", 150), ("runs", 60), ("cache", 60), ("images", 1)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"tries (default {count})")
    for name in ("store", "ray", "ray-store"):
        parser.add_argument(f"--{name}", type=int, default=0, help="tries (default none)")
    parser.add_argument("--only-named", action="store_true", help="no tries of what is not named")
    parser.add_argument("--every-moment", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    if "--only-named" in sys.argv:
        parser.set_defaults(sort=0, resume=0, runs=0, cache=0, images=0)
    asked = parser.parse_args()
    rows: list[tuple[str, Tally]] = []

    def make_tries(name: str, tries: int, attempt: Callable[[random.Random], None], tally: Tally) -> None:
        _run(name, (attempt(random.Random(asked.seed + number)) for number in range(tries)), tally)
        rows.append((name, tally))

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        _on_files(asked, base, make_tries)
        _on_stores(asked, base, make_tries)
        _on_ray(asked, base, make_tries)
        if asked.images:
            tally = Tally()
            make_tries("damaged images", asked.images, lambda generator: open_all(base, generator, tally), tally)
    return _report(rows)


MakeTries = Callable[[str, int, Callable[[random.Random], None], Tally], None]


def _on_files(asked: argparse.Namespace, base: Path, make_tries: MakeTries) -> None:
    """Stop commands on this machine's disks."""
    cache = base / "cache"
    with Server(cache) as server:
        if asked.sort:
            tally = Tally()
            sorting = SortFaultRun(server, base, tally)
            make_tries("sort, undo", asked.sort, sorting.try_random, tally)
            if asked.every_moment:
                _run("sort, undo: every moment", sorting.try_every_moment(), tally)
        if asked.resume:
            tally = Tally()
            make_tries("classify --resume", asked.resume, ResumeFaultRun(server, base, tally).try_random, tally)
        if asked.runs:
            tally = Tally()
            make_tries("run work, merge", asked.runs, ShardsFaultRun(server, base, tally).try_random, tally)
        if asked.cache:
            tally = Tally()
            make_tries("feature cache", asked.cache, CacheFaultRun(server, base, tally, cache).try_random, tally)


def _on_stores(asked: argparse.Namespace, base: Path, make_tries: MakeTries) -> None:
    """Stop the workers of runs in a store that is killed."""
    if not asked.store:
        return
    tally = Tally()
    with ExitStack() as stack:
        store, faults, front = stack.enter_context(bad_store(base / "store", asked.seed))
        server = stack.enter_context(Server(None, store.environment(front)))
        tried = StoreFaultRun(store, faults, server, base / "store" / "bucket", tally)
        make_tries("run work in a store", asked.store, tried.try_random, tally)


def _on_ray(asked: argparse.Namespace, base: Path, make_tries: MakeTries) -> None:
    """Kill processes of a cluster."""
    if asked.ray:
        tally = Tally()
        with ray_cluster() as environment:
            make_tries("run work on Ray", asked.ray, RayFaultRun(environment, base, tally).try_random, tally)
    if asked.ray_store:
        tally = Tally()
        with bad_store(base / "ray-store", asked.seed) as (store, _, _):
            reaching = store.environment(store.address)
            with ray_cluster(more=reaching) as environment:
                tried = RayFaultRun(environment, base, tally, (store, base / "ray-store" / "bucket"))
                make_tries("run work on Ray in a store", asked.ray_store, tried.try_random, tally)


def _run(name: str, tries: Iterable[None], tally: Tally) -> None:
    """Make the tries of one kind, and say how far it is every ten seconds."""
    begun = said = time.monotonic()
    told = len(tally.problems)
    for number, _ in enumerate(tries, 1):
        for problem in tally.problems[told:]:
            print(f"{name}, try {number}: {problem[:2000]}", flush=True)
        told = len(tally.problems)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{name}: {number} tries, {len(tally.problems)} problems, {said - begun:.0f} s", flush=True)


def _report(rows: list[tuple[str, Tally]]) -> int:
    """Print a table as the README has it, what was injected how often, and every problem."""
    total = Tally()
    for _, tally in rows:
        total.tries += tally.tries
        total.stopped += tally.stopped
        total.counts += tally.counts
        total.problems += tally.problems
    print("\n| tried | faults | runs stopped | records lost | images lost | crashes |\n|---" + 5 * "|---" + "|")
    for name, tally in [*rows, ("all", total)]:
        cells = [_lost(tally, "records", "expected"), _lost(tally, "images", "looked for"), tally.counts["crashes"]]
        print(f"| {name} | {tally.tries:,} | {tally.stopped:,} | " + " | ".join(map(str, cells)) + " |")
    for name, tally in [*rows, ("all", total)]:
        print(f"{name}: {', '.join(f'{count:,} {what}' for what, count in sorted(tally.counts.items()))}")
    for problem in total.problems[:100]:
        print(f"PROBLEM {problem[:2000]}")
    print(f"{len(total.problems)} problems")
    return 1 if total.problems else 0


def _lost(tally: Tally, what: str, among: str) -> str:
    """Return how many were lost of how many, or a dash where none was at stake."""
    whole = tally.counts[f"{what} {among}"]
    return f"{tally.counts[f'{what} lost']:,} of {whole:,}" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
