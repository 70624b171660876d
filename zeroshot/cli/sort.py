"""``zeroshot sort``: images into folders by label."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Placement, PlanFormat
from ..errors import ExitCode, UsageError
from ..messages import count_of, printable, shell_word, some_of
from ..results import Prediction
from ..sort.plan import Stay, Step, find_broken, make_plan, select_inputs
from ..system.signals import finish_each
from . import console, option_groups, options
from .input_options import InputOptions, check_readable
from .label_options import LearnedLabelOptions
from .model_options import ModelOptions
from .option_values import parse_folder
from .pipeline_options import ImageOptions
from .prepare_classifier import apply_calibration, prepare_classifier
from .sort_reviewed import read_reviewed, refuse_unused

if TYPE_CHECKING:
    from ..results import Record

PlanFormatOption = Annotated[
    PlanFormat | None,
    typer.Option(
        "--format",
        "-f",
        help="With --dry-run: how to print the plan. [default: table]",
        rich_help_panel=options.Panel.OUTPUT,
    ),
]

_MOST_FOLDERS = 10
"""Folders that are named, with their counts, once images were sorted into them; of more their number is told."""


@console.reports_errors
@option_groups.expand_option_groups
def sort(
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Sort into this folder; it is made if need be.",
            metavar="DIR",
            parser=parse_folder,
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Sort by the labels in a results file of `classify`, reviewed or not, instead of by a model.",
            metavar="FILE.jsonl|csv",
            rich_help_panel=options.Panel.INPUTS,
        ),
        options.Use.READ,
    ] = None,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Copy images, each read back and compared. [default: hard links, symbolic across file systems]",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False,
    move: Annotated[
        bool,
        typer.Option(
            "--move", help="Move images; `zeroshot undo` brings them back.", rich_help_panel=options.Panel.OUTPUT
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "-n", help="Print the plan and change nothing.", rich_help_panel=options.Panel.OUTPUT
        ),
    ] = False,
    format_: PlanFormatOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            help="Below this probability an image goes to _review/. [default: 0]",
            metavar="P",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    *,
    inputs: InputOptions,
    labels: LearnedLabelOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Sort images into a folder for each label.

    All images are classified before the first one is touched. Nothing is overwritten; images that cannot be read
    stay where they are. A journal is written before each step: `zeroshot undo DIR` takes everything back. The
    journal's path is printed on stdout. Exit codes: 0 all well, 1 error, 2 usage, 3 sorted but for some images,
    130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    from ..classifier import classify_paths
    from ..scoring import Decision
    from ..sort.names import folder_names

    placement = _placement(copy=copy, move=move)
    target = check_target(into)
    if format_ and not dry_run:
        raise UsageError("--format is how a plan is printed, which only --dry-run shows", "add --dry-run")
    if from_:
        refuse_unused({"calibration": calibration, "score": score}, [inputs, labels, model, images])
        records = read_reviewed(from_, threshold or 0.0, inputs)
        names = dict.fromkeys(record.label for record in records if isinstance(record, Prediction) and record.label)
        if not dry_run:
            settle(target)
        plan = list(make_plan(records, target, folder_names(names), placement))
    else:
        label_set, template_set, learned = labels.read_all()
        check_readable(calibration, "`zeroshot calibrate DIR` writes one")
        inputs.check()
        if not dry_run:
            settle(target)
        folders = folder_names(name for name, _ in label_set.answers)
        # Listed as a whole before anything moves: a folder inside its own source must not be walked while it fills.
        outside: set[str] = set()
        left: Counter[str] = Counter()
        paths = list(select_inputs(inputs.find_with_origin(), target, folders.values(), outside, left))
        say_left_out(left)
        if not paths:
            console.warn("there is nothing to sort")
            return ExitCode.OK
        pipeline = images.pipeline()
        encoder = model.load_for(None, learned)
        classifier = prepare_classifier(encoder, label_set, template_set, score, pipeline.cache, learned)
        classifier, least, _ = apply_calibration(classifier, encoder.spec, calibration, threshold)
        with console.Bar("images", len(paths)) as bar:
            found = classify_paths(encoder, classifier, paths, Decision(1, least), pipeline)
            plan = list(make_plan(_counted(found, bar), target, folders, placement, outside))
    say_broken((item.path for item in plan if isinstance(item, Stay) and Path(item.path).is_symlink()), plan)
    if dry_run:
        return print_plan(plan, format_ or PlanFormat.TABLE)
    return carry_out_plan(plan, target)


def check_target(into: Path | None) -> Path:
    """Return the folder to sort into, which may be yet to be made.

    Raises:
        OutputError: It is an address.
        UsageError: There is none, or it can be none.
    """
    from ..output.destination import check_local

    if into is None:
        raise UsageError("no folder to sort into", "--into DIR")
    check_local(into)
    try:
        target = into.expanduser().resolve()
        taken = target.exists() and not target.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long; nobody's home; a loop of links
        raise UsageError(
            f"--into {into}: {getattr(error, 'strerror', None) or error}", "name another folder"
        ) from error
    if taken:
        raise UsageError(f"--into {into} is not a folder", "name a folder, which may be new")
    return target


def say_left_out(left: Counter[str]) -> None:
    """Say which folders were taken for those that an earlier run filled; an image of the user's may be there."""
    if left:
        folders = some_of([shell_word(folder) for folder in left], separator=" and ")
        console.say(
            f"zeroshot: left out as if placed before: {count_of(left.total(), 'image')} below {folders}; "
            f"a folder that is named itself is taken"
        )


def settle(target: Path) -> None:
    """Refuse a folder that cannot be written to, and finish what an interrupted `sort` left in it."""
    from ..output.destination import check_folder
    from ..sort.run_plan import settle_earlier

    check_folder(target)
    for note in settle_earlier(target):
        console.warn(note)


def _placement(*, copy: bool, move: bool) -> Placement:
    if copy and move:
        raise UsageError("--copy and --move are given", "choose one of them")
    return Placement.COPY if copy else Placement.MOVE if move else Placement.LINK


def _counted(records: Iterable[Record], bar: console.Bar) -> Iterator[Record]:
    for record in records:
        bar.advance()
        yield record


def say_broken(links: Iterable[str], plan: Sequence[Step | Stay]) -> None:
    """Name the symbolic links that lose what they lead to."""
    console.say_few(f"{link} leads to an image that moves, and nowhere afterwards" for link in find_broken(links, plan))


def carry_out_plan(plan: list[Step | Stay], into: Path, done_so: str = "sorted") -> ExitCode:
    """Carry out a plan, and tell what was done and how to take it back."""
    from ..sort.journal import Journal
    from ..sort.run_plan import carry_out
    from ..sort.step import Method

    steps = [item for item in plan if isinstance(item, Step)]
    stays = [item for item in plan if isinstance(item, Stay)]
    if not steps:
        code = say_stays(stays)
        console.say(f"zeroshot: nothing was {done_so}")
        return code
    done: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    with Journal.create(into) as journal:
        try:
            with console.Bar("images", len(steps)) as bar:
                for outcome in finish_each(carry_out(steps, journal)):
                    bar.advance()
                    if outcome.method is None:
                        stays.append(Stay(outcome.step.path, outcome.reason, failed=True))
                    else:
                        done[outcome.step.target.parent.name] += 1
                        methods[outcome.method] += 1
        finally:
            code = say_stays(stays)
            folders = ", ".join(f"{count} in {name}" for name, count in done.items())
            folders = folders if len(done) <= _MOST_FOLDERS else f"into {len(done)} folders"
            left = len(plan) - sum(done.values()) - len(stays)  # a full disk or a signal ended it
            ended = f"; {left} not tried, or cut short" if left else ""
            console.say(
                f"zeroshot: {sum(done.values())} of {len(plan)} {done_so}{f': {folders}' if folders else ''}{ended}"
            )
            if symbolic := methods[Method.SYMBOLIC_LINK]:
                links = count_of(symbolic, "symbolic link")
                console.say(f"zeroshot: {links} made: {into} takes no hard links to these images")
            if done:  # else `undo` would take back the run before
                console.say(f"zeroshot: to take it back: zeroshot undo {shell_word(str(into))}")
            broken = _print_journal(journal.path)  # last: whoever reads stdout may have gone
    return broken or code


def _print_journal(path: Path) -> ExitCode:
    """Print a journal's path to stdout, and return the exit code for what could not be printed."""
    try:
        typer.echo(printable(str(path)) if sys.stdout.isatty() else os.fsencode(path))
    except OSError as error:
        return console.give_up_stdout(error)
    return ExitCode.OK


def say_stays(stays: list[Stay]) -> ExitCode:
    """Name the first images that stay because they could not be sorted; return the exit code for that."""
    failed = [stay for stay in stays if stay.failed]
    named = [stay for stay in stays if stay.failed or stay.repeats]
    gone = os.strerror(errno.ENOENT)
    console.say_few(
        f"{stay.path} {'is not there' if stay.reason.endswith(gone) else f'stays: {stay.reason}'}" for stay in named
    )
    if already := len(stays) - len(named):
        console.say(f"zeroshot: {already} {'is' if already == 1 else 'are'} there already")
    return ExitCode.INCOMPLETE if failed else ExitCode.OK


def print_plan(plan: list[Step | Stay], form: PlanFormat, kept: Mapping[str, str] | None = None) -> ExitCode:
    """Print what would be done, and what stays; return the exit code for that.

    Args:
        plan: What goes where, and what stays.
        form: The format.
        kept: Of duplicates, the best copy of each, which stays, by the path that goes.
    """
    from ..output.destination import open_output
    from ..output.render.sort_plan import write_plan

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    with open_output(None) as stream:
        write_plan(plan, form, stream, width=width, kept=kept)
    code = say_stays([item for item in plan if isinstance(item, Stay)])
    if sys.stderr.isatty():
        folders = Counter(item.target.parent.name for item in plan if isinstance(item, Step))
        counts = some_of([f"{count} in {name}" for name, count in folders.most_common()], 8)
        console.say(f"zeroshot: {folders.total()} of {len(plan)} would be placed" + (f": {counts}" if counts else ""))
    return code
