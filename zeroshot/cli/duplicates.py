"""``zeroshot duplicates``: copies and near-duplicates, and the others moved aside."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Format, PlanFormat
from ..errors import ExitCode, UsageError
from ..images.paths import names_folder
from ..messages import shell_word
from . import console, option_groups, options
from .input_options import InputOptions
from .option_values import choose_record_format, parse_folder
from .pipeline_options import ImageOptions, MaxPixels, Workers
from .sort import carry_out_plan, check_target, print_plan, say_broken, say_left_out, settle

if TYPE_CHECKING:
    from ..duplicates import Duplicates


@console.reports_errors
@option_groups.expand_option_groups
def duplicates(
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Only files with the same content.", rich_help_panel=options.Panel.OUTPUT),
    ] = False,
    min_similarity: Annotated[
        float | None,
        typer.Option(
            "--min-similarity",
            min=0.9,
            max=1.0,
            help="Least correlation of two near-duplicates' thumbnails. [default: 0.985]",
            metavar="R",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Move all but the best of each group into this folder; `zeroshot undo DIR` brings them back.",
            metavar="DIR",
            parser=parse_folder,
            rich_help_panel=options.Panel.OUTPUT,
        ),
        options.Use.READ_FOLDER,  # nothing that lies there is replaced
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            "-n",
            help="With --into: print the plan and change nothing.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False,
    format_: options.FormatOption = None,
    output: options.Output = None,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    *,
    inputs: InputOptions,
) -> ExitCode:
    """Group images that are copies of one another, best copy first.

    Copies have the same content; near-duplicates differ by size, compression or format: their 24 x 24 thumbnails
    correlate by --min-similarity or more, hardly differ in colour and differ much in no place. Crops, mirror images
    and other shots of the same thing are not found. No model is needed. The best copy has most pixels, then most
    bytes, then the shortest name. Of files with several frames or pages, and of cameras' RAW files, only copies are
    found. Nothing is moved without --into.
    """
    if into is None and dry_run:
        raise UsageError("--dry-run prints what --into would do, which is not given", "--into DIR --dry-run")
    if into is not None and (output or (format_ and not dry_run)):
        raise UsageError("--into moves images and prints its journal's path", "leave out --output and --format")
    if into is not None and dry_run and format_ in (Format.CSV, Format.TSV):
        raise UsageError(f"a plan is not printed as {format_}", "--format table, json or jsonl")
    if exact and min_similarity is not None:
        raise UsageError("--min-similarity is of near-duplicates, which --exact leaves out", "leave out one of the two")
    inputs.check()
    target = None if into is None else check_target(into)
    form = choose_record_format(format_, output)

    from ..duplicates import MIN_SIMILARITY, find_duplicates
    from ..output.destination import check_output, open_output
    from ..output.render.duplicates import write_duplicates
    from ..sort.plan import select_inputs

    check_output(output)
    if target is not None:
        _check_apart(target, inputs.paths or ())
    if target is not None and not dry_run:
        settle(target)
    pipeline = ImageOptions(max_pixels=max_pixels, workers=workers, no_cache=True).pipeline()
    outside: set[str] = set()
    links: list[str] = []
    with console.Bar("images") as bar:
        paths = inputs.find({"--output": output}, bar=bar)
        if target is not None:  # listed as a whole before anything moves
            left: Counter[str] = Counter()
            listed = list(select_inputs(inputs.find_with_origin(), target, (), outside, left))
            links = [path for path in listed if Path(path).is_symlink()]
            paths = iter(sorted(listed, key=set(links).__contains__))  # a file goes before the links to it
            say_left_out(left)
        least = MIN_SIMILARITY if min_similarity is None else min_similarity
        found = find_duplicates(paths, pipeline, least, exact=exact, on_progress=bar.advance)
    if target is not None:
        code = _move_aside(found, target, outside, links, PlanFormat(format_ or PlanFormat.TABLE) if dry_run else None)
    else:
        choices = {"exact": exact, "min_similarity": least}
        with open_output(output) as stream:
            write_duplicates(found, form, stream, choices, terminal=output is None and sys.stdout.isatty())
        code = ExitCode.OK
    others = sum(len(group.others) for group in found.groups)
    console.say(f"zeroshot: groups: {len(found.groups)}; images beside the best: {others} of {found.searched}")
    if found.content_only and not exact:
        console.note(f"compared by content alone: {found.content_only} with several frames or pages, or RAW")
    console.say_few(f"{failure.path}: {failure.error}" for failure in found.failures)
    return ExitCode.INCOMPLETE if found.failures else code


def _check_apart(target: Path, paths: Iterable[str]) -> None:
    """Refuse to move copies into a folder that is searched itself: the next run would take them for images anew.

    Raises:
        UsageError: Names it, and a folder inside it, which is left out of the search.
    """
    for path in paths:
        if names_folder(path) and Path(path).resolve() == target:
            raise UsageError(
                f"--into {target} is the folder that is searched", f"--into {shell_word(str(target / 'duplicates'))}"
            )


def _move_aside(
    found: Duplicates, target: Path, outside: set[str], links: list[str], form: PlanFormat | None
) -> ExitCode:
    """Move all but the best copies, or only print how; name the symbolic links that lose what they lead to."""
    from ..sort.duplicates_plan import plan_aside

    groups = [[(copy.path, copy.similarity) for copy in group.others] for group in found.groups]
    plan = list(plan_aside(groups, target, outside))
    say_broken(links, plan)
    if form is None:
        return carry_out_plan(plan, target, "moved")
    return print_plan(plan, form, {copy.path: group.best.path for group in found.groups for copy in group.others})
