"""Processes the shards of a run that are not done: all in this process, or a share of them (``--shard I/N``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from .commits import Done, committed, done_name, find_done, verify
from .plan import Plan, numbers
from .run_folder import Folder
from .work import Worker


class Executor(Protocol):
    """Has shards processed, wherever that is."""

    def run(self, waiting: list[int], on_progress: Callable[[int], None]) -> Iterator[Done]:
        """Yield what was committed, in any order.

        Args:
            waiting: Numbers of the shards.
            on_progress: Called with the number of images finished since the last call.
        """
        ...


class Local:
    """Processes one shard after the other in this process.

    Args:
        folder: Of the run.
        plan: The run.
        worker: With the model loaded.
    """

    def __init__(self, folder: Folder, plan: Plan, worker: Worker) -> None:
        self._folder, self._plan, self._worker = folder, plan, worker

    def run(self, waiting: list[int], on_progress: Callable[[int], None]) -> Iterator[Done]:
        """Process the shards, as `Executor.run`; one that was committed meanwhile by somebody else is not repeated."""
        for number in waiting:
            yield find_done(self._folder, self._plan.id, number) or self._worker.process(number, on_progress)


def find_waiting(folder: Folder, plan: Plan, share: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the shards of a share that are not committed: one listing, however many there are."""
    there = committed(folder, plan)
    return [number for number in numbers(plan, share) if number not in there]


def withdraw_damaged(folder: Folder, plan: Plan) -> list[str]:
    """Read all that is committed, take back what is not as it was, and return why, one line each."""
    problems: list[str] = []
    for number, problem in verify(folder, plan):
        folder.remove(done_name(number))
        problems.append(problem)
    return problems
