"""Times two or more works in turns, and holds what a benchmark prints: both times and their ratio."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        name: What is compared.
        ours: Seconds (or bytes) of this tool.
        theirs: Seconds (or bytes) of the other side.
        bar: What the ratio should be, in words.
        ratio: The figure that the bar speaks of.
    """

    name: str
    ours: float
    theirs: float
    bar: str
    ratio: float


def side_by_side(*works: Callable[[], object], rounds: int = 3) -> list[float]:
    """Return the seconds of each work's quickest run.

    They take turns, so that whatever else the machine does for a while slows all of them.
    """
    found = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            begin = time.perf_counter()
            work()
            found[index] = min(found[index], time.perf_counter() - begin)
    return found


def compiled() -> dict[str, str]:
    """Return the environment in which Python keeps what it compiled, as any installed program's does."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def command(*arguments: object) -> None:
    """Run a process to its end, output thrown away.

    Raises:
        RuntimeError: It failed.
    """
    # Whatever a peer would look up in the network fails at once, and is not part of what is compared.
    offline = {**compiled(), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, env=offline)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")


def zeroshot(*arguments: object) -> None:
    """Run this tool's command."""
    command(sys.executable, "-m", "zeroshot", *arguments)
