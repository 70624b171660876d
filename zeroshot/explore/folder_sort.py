"""Sorts into folders from the page, through the journalled plan of `sort`, and undoes it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..enums import Placement
from ..errors import InputError, ZeroshotError
from ..messages import printable
from ..output.destination import check_folder
from ..sort.journal import Journal
from ..sort.names import folder_names
from ..sort.plan import Stay, Step, make_plan, select_inputs
from ..sort.run_plan import carry_out, settle_earlier, undo
from .collection import absolute
from .exports import records_of
from .session import Session
from .tab_view import View

_SHOWN = 60

_CHANGED = "has changed since it was encoded (load the page again)"


@dataclass(slots=True)
class Job:
    """A sort or an undo in work, or the last one.

    Attributes:
        kind: ``sort`` or ``undo``.
        total: Steps.
        done: Steps that are done.
        failed: Why steps were not, in one line each; the first ones.
        n_failed: How many were not.
        running: Whether it is in work.
        error: Why it ended early; empty if it did not.
        hint: What may help.
        journal: The journal's path.
        undoable: Whether it can be taken back.
    """

    kind: str
    total: int
    done: int = 0
    failed: list[str] = field(default_factory=list)
    n_failed: int = 0
    running: bool = True
    error: str = ""
    hint: str = ""
    journal: str = ""
    undoable: bool = False

    def fail(self, path: str, reason: str) -> None:
        """Count a step that was not done."""
        self.n_failed += 1
        if len(self.failed) < _SHOWN:
            self.failed.append(printable(f"{path}: {reason}"))


class Actions:
    """Writes only what it is asked to; one job at a time.

    Args:
        session: The images, labels and corrections.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._plan: tuple[str, list[Step | Stay], Path] | None = None
        self._number = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._moves: dict[str, dict[str, str]] = {}
        self.job: Job | None = None

    def close(self) -> None:
        """Let the step in hand finish, and no other begin."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def plan(self, view: View, threshold: float, into: str, placement: Placement) -> dict[str, Any]:
        """Make the plan of a sort, and return what it would do; nothing is changed.

        Raises:
            ZeroshotError: There are no labels, or the folder cannot be used.
        """
        if view.sorting is None:
            raise InputError("there is nothing to sort by", "type labels first")
        target = _resolve(into)
        folders = folder_names(name for name, _ in view.sorting.classifier.labels.answers)
        given = self._session.collection.folder
        records = {record.path: record for record in records_of(self._session, view, threshold)}
        paths = list(select_inputs(((path, given) for path in records), target, folders.values()))
        steps = list(make_plan((records[path] for path in paths), target, folders, placement))
        changed = self._session.collection.changed(item.path for item in steps if isinstance(item, Step))
        steps = [Stay(item.path, _CHANGED, failed=True) if item.path in changed else item for item in steps]
        with self._lock:
            self._number += 1
            key = f"{self._session.run}-p{self._number}"
            self._plan = (key, steps, target)
        moving = [item for item in steps if isinstance(item, Step)]
        stays = [item for item in steps if isinstance(item, Stay)]
        return {
            "plan": key,
            "into": printable(str(target)),
            # What lies in an archive or a store is copied, whatever is done with files.
            "placement": " and ".join(dict.fromkeys(str(step.placement) for step in moving)) or str(placement),
            "steps": len(moving),
            "folders": sorted(Counter(step.target.parent.name for step in moving).items()),
            "stays": len(stays),
            "reasons": [
                [printable(why), count] for why, count in Counter(stay.reason for stay in stays).most_common(5)
            ],
            "inside": len(records) - len(paths),
            "waiting": self._session.collection.waiting(view.count),
            "lines": [printable(f"{step.placement}  {step.path} -> {step.target}") for step in moving[:_SHOWN]],
            "staying": [printable(f"stay  {stay.path}: {stay.reason}") for stay in stays[:_SHOWN]],
        }

    def carry_out(self, key: str) -> None:
        """Begin to carry out the plan that was shown last.

        Raises:
            ZeroshotError: It is another one, another job is in work, or the folder cannot be written to.
        """
        with self._lock:
            self._check_idle()
            if self._plan is None or self._plan[0] != key:
                raise InputError("that plan was replaced by a newer one", "look at the newer one")
            _, items, target = self._plan
            check_folder(target)
            self._plan = None
            steps = [item for item in items if isinstance(item, Step)]
            self._start(Job("sort", len(steps)), lambda job: self._sort(job, steps, target))

    def undo(self) -> None:
        """Begin to take back the last sort.

        Raises:
            ZeroshotError: There is none, or another job is in work.
        """
        with self._lock:
            self._check_idle()
            if self.job is None or not self.job.undoable:
                raise InputError("there is no sort to take back")
            path = Path(self.job.journal)
            with Journal.open(path) as journal:
                total = len(journal.history.open_entries)
            self._start(Job("undo", total, journal=self.job.journal, undoable=True), lambda job: self._undo(job, path))

    def _check_idle(self) -> None:
        if self.job is not None and self.job.running:
            raise InputError(f"a {self.job.kind} is still going on", "wait until it has ended")

    def _start(self, job: Job, work: Callable[[Job], None]) -> None:
        self.job = job

        def run() -> None:
            try:
                work(job)
            except ZeroshotError as error:
                job.error, job.hint = error.message, error.hint
            except OSError as error:
                job.error = f"the {job.kind} has stopped: {error.strerror or error}"
            finally:
                job.running = False

        self._thread = threading.Thread(target=run, name=job.kind)
        self._thread.start()

    def _sort(self, job: Job, steps: list[Step], target: Path) -> None:
        for note in settle_earlier(target):
            job.fail(str(target), note)
        moved: dict[str, str] = {}
        try:
            with Journal.create(target) as journal:
                job.journal, job.undoable = str(journal.path), True
                for outcome in carry_out(steps, journal):
                    if outcome.method is None:
                        job.fail(outcome.step.path, outcome.reason)
                    else:
                        job.done += 1
                        if outcome.step.placement is Placement.MOVE:
                            source = absolute(outcome.step.path)
                            moved[source] = self._session.collection.name_of(outcome.step.target)
                    if self._stopped.is_set():
                        break
        finally:
            if moved:
                self._moves[job.journal] = moved
                self._session.moved(moved)

    def _undo(self, job: Job, path: Path) -> None:
        came_from = {target: source for source, target in self._moves.get(str(path), {}).items()}
        back: dict[str, str] = {}
        try:
            with Journal.open(path) as journal:
                for outcome in undo(journal):
                    if outcome.reason:
                        job.fail(str(outcome.task.target), outcome.reason)
                    else:
                        job.done += 1
                        if (target := self._session.collection.name_of(outcome.task.target)) in came_from:
                            back[target] = came_from[target]
                    if self._stopped.is_set():
                        break
                else:
                    job.undoable = bool(job.n_failed)
        finally:
            if back:
                self._session.moved(back)


def _resolve(into: str) -> Path:
    if not into.strip():
        raise InputError("no folder to sort into", "name one; it may be new")
    try:
        target = Path(into).expanduser().resolve()
        if target.exists() and not target.is_dir():
            raise InputError(f"{into} is not a folder", "name a folder, which may be new")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{into}: {getattr(error, 'strerror', None) or error}", "name another folder") from error
    return target
