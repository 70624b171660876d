"""``zeroshot undo``: what a `sort` did is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExitCode, UsageError
from ..messages import printable
from ..system.signals import finish_each
from . import console


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
    from ..sort.journal import Journal, find_last_journal
    from ..sort.mover import undo as take_back

    if names_folder(str(journal)):
        folder, last = journal, find_last_journal(journal)
        if last is None:
            raise UsageError(f"{folder} is a folder without a journal", "name the folder that `sort --into` filled")
        journal = last
    kept = done = 0
    with Journal.open(journal) as opened:
        entries = opened.history.open_entries
        if dry_run:
            for entry in entries:
                task = entry.task
                typer.echo(printable(f"{task.method}: {task.target} -> {task.member or task.source}"))
            return ExitCode.OK
        with console.Bar("steps", len(entries)) as bar:
            for outcome in finish_each(take_back(opened)):
                bar.advance()
                done += not outcome.reason
                kept += bool(outcome.reason)
                if outcome.reason:
                    console.say(f"zeroshot: not undone: {outcome.reason}")
    console.say(f"zeroshot: {done} taken back" + (f", {kept} not" if kept else ""))
    return ExitCode.INCOMPLETE if kept else ExitCode.OK
