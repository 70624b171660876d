"""``zeroshot sort`` and ``zeroshot undo``: images into folders by label, and back."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..enums import Placement
from ..errors import ExitCode, UsageError
from ..sort.plan import Stay, Step
from ..system.signals import held_back
from . import console, groups, options
from .inputs import InputOptions, prepare_classifier, read_labels, read_templates

if TYPE_CHECKING:
    from ..results import Record

T = TypeVar("T")

_SHOWN = 20
"""Images named on stderr one by one."""


@console.reports_errors
@groups.expand_option_groups
def sort(
    into: Annotated[
        Path | None, typer.Option("--into", help="Sort into this folder; it is made if need be.", metavar="DIR")
    ] = None,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link images (the default): hard links, symbolic across file systems.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images, each read back and compared.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Move images; `zeroshot undo` brings them back.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: print the plan as JSON lines.")] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0.0, max=1.0, help="Below this probability an image goes to _review/.", metavar="P"
        ),
    ] = 0.0,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    score: options.ScoreOption = None,
    *,
    inputs: InputOptions,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Sort images into a folder for each label.

    All images are classified before the first one is touched. Nothing is overwritten; images that cannot be read
    stay where they are. A journal is written before each step: `zeroshot undo JOURNAL` takes everything back. The
    journal's path is printed on stdout. Exit codes: 0 all well, 1 error, 2 usage, 3 sorted but for some images,
    130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    placement = _placement(link=link, copy=copy, move=move)
    if into is None:
        raise UsageError("no folder to sort into", "--into DIR")
    if json and not dry_run:
        raise UsageError("--json prints a plan, which only --dry-run shows", "add --dry-run")
    try:
        target = into.expanduser().resolve()
        taken = target.exists() and not target.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long; nobody's home; a loop of links
        raise UsageError(
            f"--into {into}: {getattr(error, 'strerror', None) or error}", "name another folder"
        ) from error
    if taken:
        raise UsageError(f"--into {into} is not a folder", "name a folder, which may be new")
    label_set, template_set = read_labels(labels, labels_file), read_templates(prompts, template)
    inputs.check()

    from ..output.destination import check_folder
    from ..sort.mover import settle_earlier
    from ..sort.names import folder_names
    from ..sort.plan import make_plan, select_inputs

    if not dry_run:
        check_folder(target)
        for note in settle_earlier(target):
            console.warn(note)
    folders = folder_names(name for name, _ in label_set.answers)
    # Listed as a whole before anything moves: a folder inside its own source must not be walked while it fills.
    paths = list(select_inputs(inputs.find_with_origin(), target, folders.values()))
    if not paths:
        console.warn("there is nothing to sort")
        return ExitCode.OK

    from ..classifier import Decision, classify_paths

    pipeline = images.pipeline()
    encoder = running.load(model, pretrained, preprocess_overrides)
    classifier = prepare_classifier(encoder, label_set, template_set, score, pipeline.cache)
    with console.Bar("images", len(paths)) as bar:
        records = _counted(classify_paths(encoder, classifier, paths, Decision(1, threshold), pipeline), bar)
        plan = list(make_plan(records, target, folders, placement))
    if dry_run:
        _print_plan(plan, as_json=json)
        _say_stays(stays := [item for item in plan if isinstance(item, Stay)])
        return ExitCode.INCOMPLETE if any(stay.failed for stay in stays) else ExitCode.OK
    return _carry_out(plan, target)


@console.reports_errors
def undo(
    journal: Annotated[
        Path, typer.Argument(help="The journal that `sort` named: DIR/.zeroshot/....jsonl.", metavar="JOURNAL")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be taken back.")] = False,
) -> ExitCode:
    """Take back what a `sort` did, last step first.

    Moved images return to where they were, with their times; links and copies go, as long as the image itself is
    where it was. A file that changed since is left alone and named. It may be interrupted and run again. A journal
    moves files: undo your own only.
    """
    from ..images.paths import names_folder
    from ..output.render.records import printable
    from ..sort.journal import Journal, find_journals
    from ..sort.mover import undo as take_back

    if names_folder(str(journal)):
        found = list(find_journals(journal))
        raise UsageError(
            f"{journal} is a folder" + ("" if found else " without a journal"),
            f"zeroshot undo {found[-1] if found else 'DIR/.zeroshot/....jsonl'}",
        )
    kept = done = 0
    with Journal.open(journal) as opened:
        entries = opened.history.open_entries
        if dry_run:
            for entry in entries:
                task = entry.task
                typer.echo(printable(f"{task.method}: {task.target} -> {task.source}"))
            return ExitCode.OK
        with console.Bar("steps", len(entries)) as bar:
            for outcome in _one_by_one(take_back(opened)):
                bar.advance()
                done += not outcome.reason
                kept += bool(outcome.reason)
                if outcome.reason:
                    console.say(f"zeroshot: not undone: {outcome.reason}")
    console.say(f"zeroshot: {done} taken back" + (f", {kept} not" if kept else ""))
    return ExitCode.INCOMPLETE if kept else ExitCode.OK


def _placement(*, link: bool, copy: bool, move: bool) -> Placement:
    given = [
        choice for choice, asked in ((Placement.LINK, link), (Placement.COPY, copy), (Placement.MOVE, move)) if asked
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(f'--{choice}' for choice in given)} are given", "choose one of them")
    return given[0] if given else Placement.LINK


def _counted(records: Iterable[Record], bar: console.Bar) -> Iterator[Record]:
    for record in records:
        bar.advance()
        yield record


def _one_by_one(outcomes: Iterator[T]) -> Iterator[T]:
    """Yield outcomes; a signal waits for the step in hand, so that none is left half done."""
    while True:
        outcome = None
        try:
            with held_back():
                outcome = next(outcomes, None)
        except KeyboardInterrupt:
            if outcome is not None:
                yield outcome  # the step was finished first: it counts
            raise
        if outcome is None:
            return
        yield outcome


def _carry_out(plan: list[Step | Stay], into: Path) -> ExitCode:
    """Carry out a plan, and tell what was done and how to take it back."""
    from ..sort.journal import Journal
    from ..sort.mover import carry_out
    from ..sort.placing import Method

    steps = [item for item in plan if isinstance(item, Step)]
    stays = [item for item in plan if isinstance(item, Stay)]
    if not steps:
        _say_stays(stays)
        console.say("zeroshot: nothing was sorted")
        return ExitCode.INCOMPLETE if any(stay.failed for stay in stays) else ExitCode.OK
    done: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    with Journal.create(into) as journal:
        console.say(f"zeroshot: the journal is {journal.path}")
        try:
            with console.Bar("images", len(steps)) as bar:
                for outcome in _one_by_one(carry_out(steps, journal)):
                    bar.advance()
                    if outcome.method is None:
                        stays.append(Stay(outcome.step.path, outcome.reason, failed=True))
                    else:
                        done[outcome.step.target.parent.name] += 1
                        methods[outcome.method] += 1
        finally:
            typer.echo(os.fsencode(journal.path))
            _say_stays(stays)
            folders = ", ".join(f"{count} in {name}" for name, count in done.items())
            console.say(f"zeroshot: {sum(done.values())} of {len(plan)} sorted" + (f": {folders}" if folders else ""))
            if symbolic := methods[Method.SYMBOLIC_LINK]:
                console.say(f"zeroshot: {symbolic} are symbolic links: {into} takes no hard links to these images")
            console.say(f"zeroshot: to take it back: zeroshot undo {shlex.quote(str(journal.path))}")
    return ExitCode.INCOMPLETE if any(stay.failed for stay in stays) else ExitCode.OK


def _say_stays(stays: list[Stay]) -> None:
    failed = [stay for stay in stays if stay.failed]
    for stay in failed[:_SHOWN]:
        console.say(f"zeroshot: {stay.path} stays: {stay.reason}")
    if len(failed) > _SHOWN:
        console.say(f"zeroshot: ... and {len(failed) - _SHOWN} more")
    if already := len(stays) - len(failed):
        console.say(f"zeroshot: {already} are there already or were named twice")


def _print_plan(plan: list[Step | Stay], *, as_json: bool) -> None:
    from ..output.render.records import printable, significant, to_json

    for item in plan:
        if isinstance(item, Stay):
            row = {"path": item.path, "action": "stay", "reason": item.reason, "failed": item.failed}
            line = f"stay  {item.path}: {item.reason}"
        else:
            row = {
                "path": item.path,
                "action": str(item.placement),
                "target": str(item.target),
                "label": item.label,
                "probability": significant(item.probability),
            }
            line = f"{item.placement}  {item.path} -> {item.target}  {100 * item.probability:.1f}%"
        typer.echo(to_json(row) if as_json else printable(line).encode())
