"""The long version of tests/faults/: minutes, one command, a table at the end.

    python tools/torture.py [--sort 150] [--resume 150] [--runs 60] [--cache 60] [--images 1] [--every-moment]

Each number is how many seeded tries are made; ``--every-moment`` also kills sorting before, in and during the undo of
every single call that changes the file system. Exits 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.campaigns import CacheCampaign, ResumeCampaign, RunCampaign, SortCampaign, Tally
from support.corpus import open_all
from support.fault_injection import Server


def main() -> int:
    """Run every campaign, print what was tried and what was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name, count in (("sort", 150), ("resume", 150), ("runs", 60), ("cache", 60), ("images", 1)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"tries (default {count})")
    parser.add_argument("--every-moment", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows: list[tuple[str, Tally]] = []
    with tempfile.TemporaryDirectory() as folder:
        base, cache = Path(folder), Path(folder) / "cache"
        with Server(cache) as server:

            def campaign(name: str, tries: int, attempt: Callable[[random.Random], None], tally: Tally) -> None:
                _run(name, (attempt(random.Random(asked.seed + number)) for number in range(tries)), tally)
                rows.append((name, tally))

            tally = Tally()
            sorting = SortCampaign(server, base, tally)
            campaign("sort, undo", asked.sort, sorting.try_random, tally)
            if asked.every_moment:
                _run("sort, undo: every moment", sorting.try_every_moment(), tally)
            tally = Tally()
            campaign("classify --resume", asked.resume, ResumeCampaign(server, base, tally).try_random, tally)
            tally = Tally()
            campaign("run work, merge", asked.runs, RunCampaign(server, base, tally).try_random, tally)
            tally = Tally()
            campaign("feature cache", asked.cache, CacheCampaign(server, base, tally, cache).try_random, tally)
        tally = Tally()
        campaign("damaged images", asked.images, lambda generator: open_all(base, generator, tally), tally)
    return _report(rows)


def _run(name: str, tries: Iterable[None], tally: Tally) -> None:
    """Go through a campaign, and say how far it is every ten seconds."""
    begun = said = time.monotonic()
    for number, _ in enumerate(tries, 1):
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
