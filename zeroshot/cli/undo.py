"""``zeroshot undo``: what a `sort` did is taken back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError
from ..messages import printable, shell_word
from ..system.signals import finish_each
from . import console

if TYPE_CHECKING:
    from ..sort.step import Task


@console.reports_errors
def undo(
    journal: Annotated[
        Path,
        typer.Argument(
            help="The folder that `sort` filled, for its last run; or a journal in it.", metavar="DIR|JOURNAL"
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be taken back.")] = False,
) -> ExitCode:
    """Take back what a `sort` did, last step first.

    Moved images return to where they were, with their times; links and copies go, as long as the image itself is
    where it was. A file that changed since is left alone and named. It may be interrupted and run again. A journal
    moves files: undo your own only.
    """
    from ..images.paths import names_folder
    from ..sort.journal import find_journals, find_open_journals

    if not names_folder(str(journal)):
        return _undo_run(journal, dry_run=dry_run).code
    folder = journal
    runs = find_open_journals(folder) or [*find_journals(folder)][-1:]
    if not runs:
        raise UsageError(f"{folder} is a folder without a journal", "name the folder that `sort --into` filled")
    several = len(runs) > 1
    for place, run in enumerate(runs):
        found = _undo_run(run, dry_run=dry_run, named=several)
        if not (found.stuck and runs[place + 1 :]):
            break
        console.say("zeroshot: nothing of that run can be taken back; going on to the run before it")
    others = runs[place + 1 :]
    if others and not found.kept:
        again = "" if dry_run else f": `zeroshot undo {shell_word(str(folder))}` again takes it back"
        console.note(f"the run before it is {others[0]}{again}")
    elif found.kept:
        for other in others:
            console.note(f"an earlier run can be taken back on its own: zeroshot undo {shell_word(str(other))}")
    return ExitCode.INCOMPLETE if found.kept else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of one run's steps.

    Attributes:
        kept: How many were not taken back.
        stuck: None was, nor are there any that an earlier undo did not try.
    """

    kept: int
    stuck: bool

    @property
    def code(self) -> ExitCode:
        """The exit code for it."""
        return ExitCode.INCOMPLETE if self.kept else ExitCode.OK


def _describe(task: Task) -> str:
    """Say what taking a step back does: an image returns, or what was made of one that stays is removed."""
    from ..sort.step import Method

    if task.method is Method.MOVE:
        return f"move: {task.target} -> {task.source}"
    return f"remove {task.method}: {task.target} (of {task.member or task.source})"


def _undo_run(path: Path, *, dry_run: bool, named: bool = False) -> _Found:
    """Take back one run, or print what would be taken back, and what cannot be and why."""
    from ..sort.journal import Journal
    from ..sort.run_plan import is_stuck
    from ..sort.run_plan import undo as take_back

    kept = done = 0
    lines: list[str] = []
    with Journal.open(path) as opened:
        stuck = is_stuck(opened)
        with console.Bar("steps", len(opened.history.open_entries)) as bar:
            for outcome in finish_each(take_back(opened, dry=dry_run)):
                bar.advance()
                done += not outcome.reason
                kept += bool(outcome.reason)
                task = outcome.task
                if outcome.reason:
                    console.say(f"zeroshot: {'cannot be undone' if dry_run else 'not undone'}: {outcome.reason}")
                elif dry_run:
                    lines.append(_describe(task))
    for line in lines:
        typer.echo(printable(line))
    what = "would be taken back" if dry_run else "taken back"
    of = f" of {path}" if named or kept else ""
    console.say(f"zeroshot: {done} {what}" + (f", {kept} not" if kept else "") + of)
    return _Found(kept, stuck and not done and bool(kept))
