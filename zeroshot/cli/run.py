"""``zeroshot run``: a plan, workers on as many machines as there are, and one file out of their parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Device, Format, PartFormat, ReportFormat
from ..errors import ExitCode, UsageError
from ..messages import count_of, shell_word
from . import console, option_groups, options
from .executor_options import ExecutorOptions
from .input_options import InputOptions, check_readable
from .label_options import LearnedLabelOptions
from .model_options import DeviceOption, ModelOptions, read_preprocess
from .option_values import choose_record_format, parse_fields
from .pipeline_options import BatchSize, Draft, ImageTimeout, Isolate, MaxPixels, NoExif, Workers
from .prepare_classifier import apply_calibration, prepare_classifier

if TYPE_CHECKING:
    from ..distribute.executors import Executor
    from ..distribute.merge import Status
    from ..distribute.plan import Plan
    from ..distribute.recipe import RunRecipe
    from ..distribute.run_folder import Folder

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Run = Annotated[str, typer.Argument(help="The run's folder, here or in a store.", metavar="RUN", show_default=False)]

_NAMED = 5


@dataclass(frozen=True, slots=True)
class PlannedImages:
    """How images are opened, on whichever machine."""

    no_exif: NoExif = False
    max_pixels: MaxPixels = None
    draft: Draft = False
    batch_size: BatchSize = None


@app.command()
@console.reports_errors
@option_groups.expand_option_groups
def plan(
    into: Annotated[
        str,
        typer.Option(
            "--into",
            help="The run's folder, such as ./run or s3://BUCKET/run.",
            metavar="RUN",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ],
    top_k: options.TopK = 5,
    threshold: options.Threshold = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    fields: options.Fields = None,
    shard_size: Annotated[
        int,
        typer.Option(
            "--shard-size",
            min=1,
            max=1_000_000,
            help="Images that are committed together.",
            metavar="N",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = 10_000,
    parts: Annotated[
        PartFormat,
        typer.Option("--parts", help="How the parts are written.", rich_help_panel=options.Panel.OUTPUT),
    ] = PartFormat.JSONL,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="Store features too: commands on this run then encode no image again.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False,
    *,
    inputs: InputOptions,
    labels: LearnedLabelOptions,
    model: ModelOptions,
    images: PlannedImages,
) -> ExitCode:
    """List the inputs once and write a plan: shards, and what decides their records.

    The model is loaded to check the labels and to record what it is; no image is read. The same command again changes
    nothing; another recipe or other inputs are refused in the same folder. What belongs to a machine (--device,
    --workers, --isolate) is given to `zeroshot run work`; --device here is where the model is loaded for the check.
    """
    shown = parse_fields(fields)
    label_set, template_set, learned = labels.read_all()
    inputs.check()
    check_readable(calibration, "`zeroshot calibrate DIR` writes one")

    from ..distribute.plan import write_plan
    from ..distribute.recipe import RunRecipe, facts_of
    from ..distribute.run_folder import open_folder
    from ..evaluation.learned_file import read_learned_document
    from ..features.pipeline import DEFAULT_BATCH

    folder = open_folder(into)
    model = model.or_learned(learned)
    encoder = model.load()
    classifier = prepare_classifier(encoder, label_set, template_set, score, None, learned)
    _, least, chosen = apply_calibration(classifier, encoder.spec, calibration, threshold)
    recipe = RunRecipe(
        model={
            "model": model.model or encoder.spec.model,
            "pretrained": model.pretrained,
            "preprocessing": read_preprocess(model.preprocess),
        },
        facts=facts_of(encoder.spec),
        labels=label_set,
        templates=template_set,
        precision=model.precision,
        engine=model.engine,
        score=score,
        temperature=chosen["calibration"]["temperature"] if chosen else None,
        learned=read_learned_document(learned.source) if learned else None,
        top_k=min(top_k, len(label_set.answers)),
        threshold=least,
        fields=shown,
        exif=not images.no_exif,
        draft=images.draft,
        max_pixels=images.max_pixels,
        private_hosts=inputs.allow_private_hosts,
        batch_size=images.batch_size or DEFAULT_BATCH,
        parquet=parts is PartFormat.PARQUET,
        features=features,
    )
    with console.Bar("inputs") as bar:
        planned = write_plan(folder, recipe.document(), inputs.find_entries(), shard_size, bar.advance, console.warn)
    known = "an unknown number of images" if planned.images is None else count_of(planned.images, "image")
    shards = count_of(len(planned.shards), "shard")
    console.say(f"zeroshot: {into} has {shards}, {known}; its id is {planned.id[:12]}")
    console.say(f"zeroshot: next: zeroshot run work {shell_word(into)}")
    return ExitCode.OK


@app.command()
@console.reports_errors
@option_groups.expand_option_groups
def work(
    run: Run,
    device: DeviceOption = Device.AUTO,
    workers: Workers = None,
    isolate: Isolate = False,
    image_timeout: ImageTimeout = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="First read all that is committed, and compute what is damaged again.")
    ] = False,
    accept_failures: Annotated[
        bool,
        typer.Option(
            "--accept-failures",
            help="Commit a shard even if most of its images are missing, denied or not answered.",
        ),
    ] = False,
    *,
    chosen: ExecutorOptions,
) -> ExitCode:
    """Process the shards of a run that are not committed yet.

    It may be stopped at any moment, run again, and run by several processes and machines at once: a shard is
    committed whole, and twice is harmless.
    """
    if image_timeout is not None and not isolate:
        raise UsageError("--image-timeout needs --isolate: a thread cannot be stopped", "add --isolate")
    share = chosen.share

    from ..distribute.executors import find_waiting, withdraw_damaged
    from ..distribute.work import Machine
    from ..images.isolate import DEFAULT_SECONDS

    seconds = (image_timeout or DEFAULT_SECONDS) if isolate else None
    folder, planned, recipe = _open(run)
    if verify:
        with console.doing("reading what is committed"):
            problems = withdraw_damaged(folder, planned)
        for problem in problems:
            console.say(f"zeroshot: is computed again: {problem}")
    waiting = find_waiting(folder, planned, share)
    if not waiting:
        _tell_nothing_left(folder, planned, share)
        return ExitCode.OK
    machine = Machine(device, workers, seconds, accept_failures)
    return _carry_out(chosen.build(folder, planned, recipe, machine), planned, waiting)


def _tell_nothing_left(folder: Folder, planned: Plan, share: tuple[int, int]) -> None:
    """Say that all of a share is committed, and whether the run can be merged.

    Raises:
        InputError: What commits one of its shards is damaged.
    """
    from ..distribute.merge import check_undamaged, find_status
    from ..distribute.plan import numbers

    there = find_status(folder, planned)
    check_undamaged(folder, there, frozenset(numbers(planned, share)))
    if there.committed == there.shards:
        merging = f"`zeroshot run merge {shell_word(folder.place)} -o FILE` writes the records"
        console.say(f"zeroshot: nothing is left to do; {merging}")
        return
    console.say(
        f"zeroshot: nothing is left in this share ({there.committed:,} of {count_of(there.shards, 'shard')} of the run"
        " are committed)"
    )


def _carry_out(executor: Executor, planned: Plan, waiting: list[int]) -> ExitCode:
    """Have shards processed under a progress bar, and say what became of them."""
    counts = [planned.shards[number].images for number in waiting]
    images = failures = shards = 0
    with console.Bar("images", None if None in counts else sum(count or 0 for count in counts)) as bar:
        try:
            for done in executor.run(waiting, bar.advance):
                shards, images, failures = shards + 1, images + done.images, failures + done.failures
        except KeyboardInterrupt:
            left = f"{shards} of {count_of(len(waiting), 'shard')}"
            console.say(f"zeroshot: committed before the interrupt: {left}; the same command continues")
            raise
    are = "is" if shards == 1 else "are"
    console.say(f"zeroshot: {count_of(shards, 'shard')} with {count_of(images, 'image')} {are} committed")
    if failures:
        console.say(f"zeroshot: {failures:,} of them could not be read; each has a record with its reason")
    return ExitCode.INCOMPLETE if failures else ExitCode.OK


@app.command()
@console.reports_errors
def status(
    run: Run,
    format_: Annotated[
        ReportFormat | None,
        typer.Option("--format", "-f", help="How to write it. [default: table on a terminal, else json]"),
    ] = None,
) -> ExitCode:
    """Say how far a run is."""
    import sys

    from ..distribute.merge import find_status
    from ..output.render.run_status import write_status

    folder, planned, _ = _open(run)
    form = format_ or (ReportFormat.TABLE if sys.stdout.isatty() else ReportFormat.JSON)
    write_status(find_status(folder, planned), form, sys.stdout.buffer)
    return ExitCode.OK


@app.command()
@console.reports_errors
@option_groups.expand_option_groups
def merge(
    run: Run,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file: .jsonl, .csv, .tsv.", metavar="FILE"),
        options.Use.WRITTEN,
    ],
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="One of jsonl, csv, tsv. [default: the ending of --output]", metavar="FORMAT"
        ),
    ] = None,
) -> ExitCode:
    """Write the records of a finished run to one file, after every count and hash was checked."""
    from ..distribute.merge import merge as write
    from ..output.destination import check_output

    form = choose_record_format(format_, output, "end it in .jsonl, .csv or .tsv")
    if form not in (Format.JSONL, Format.CSV, Format.TSV):
        asked = f"--format {form}" if format_ else f"--output {output}"
        raise UsageError(f"{asked}: a merged file has one record per line", "a name ending in .jsonl, .csv or .tsv")
    folder, planned, recipe = _open(run)
    check_output(output)
    with console.Bar("records", planned.images) as bar:
        made = write(folder, planned, recipe, output, form, bar.advance)
    _tell_makers(made)
    if made.failures:
        console.say(f"zeroshot: {made.failures:,} of {made.records:,} inputs could not be read")
    return ExitCode.INCOMPLETE if made.failures else ExitCode.OK


def _tell_makers(made: Status) -> None:
    if len(made.made_by) > 1:
        kinds = "; ".join(f"{count} shards by {maker}" for maker, count in made.made_by[:_NAMED])
        console.warn(f"the parts were made by different engines or versions, which may round differently: {kinds}")


def _open(run: str) -> tuple[Folder, Plan, RunRecipe]:
    from ..distribute.plan import load_plan
    from ..distribute.recipe import parse_recipe
    from ..distribute.run_folder import open_folder

    folder = open_folder(run)
    planned = load_plan(folder)
    return folder, planned, parse_recipe(planned.recipe)
