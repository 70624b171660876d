"""``zeroshot classify``: images in, one record each out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError
from ..results import Failure, Record
from . import console, groups, options
from .inputs import InputOptions, apply_calibration, check_readable, prepare_classifier

if TYPE_CHECKING:
    from ..features.pipeline import Pipeline
    from ..output.report import ClassifyReport
    from ..output.sinks import RecordFile
    from ..results import Manifest


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where records go, and what of them is written."""

    format_: options.FormatOption = None
    fields: options.Fields = None
    top_k: options.TopK = 5
    output: options.Output = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --output: continue a file that was cut short (jsonl, csv, tsv).",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    report: options.Report = None

    def check(self) -> None:
        """Refuse what cannot be written, before the work whose results it is for.

        Raises:
            OutputError: A file cannot be written, or not be continued.
            UsageError: Options contradict each other.
        """
        from ..output.destination import check_output
        from ..output.sinks import check_target

        options.parse_fields(self.fields)
        if self.resume and (self.output is None or self.report is not None):
            raise UsageError("--resume continues the file of --output, without --report", "--output FILE --resume")
        check_target(self.output, options.choose_record_format(self.format_, self.output), resume=self.resume)
        check_output(self.report)


@console.reports_errors
@groups.expand_option_groups
def classify(
    threshold: options.Threshold = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    *,
    inputs: InputOptions,
    labels: groups.LabelOptions,
    model: groups.ModelOptions,
    output: OutputOptions,
    images: groups.ImageOptions,
) -> ExitCode:
    """Say which label fits each image best, with probabilities.

    Exactly one record per input, in input order. Exit codes: 0 all well, 1 error, 2 usage, 3 results complete
    but some images could not be read, 130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    label_set, template_set = labels.read()
    inputs.check()
    check_readable(calibration, "`zeroshot calibrate DIR` writes one")
    output.check()

    from ..classifier import Decision, build_manifest, classify_paths
    from ..output.render.records import Layout
    from ..output.resume import Recipe
    from ..output.sinks import open_records, write_records

    pipeline = images.pipeline()
    encoder = model.load()
    classifier = prepare_classifier(encoder, label_set, template_set, score, pipeline.cache)
    classifier, least, chosen = apply_calibration(classifier, encoder.spec, calibration, threshold)
    answers, to_terminal = len(label_set.answers), output.output is None and sys.stdout.isatty()
    shown = options.parse_fields(output.fields)
    layout = Layout(shown, min(output.top_k, answers), shutil.get_terminal_size().columns, colour=to_terminal)
    chosen = {"top_k": layout.top_k, "threshold": least} | images.choices(pipeline) | chosen
    form = options.choose_record_format(output.format_, output.output)
    recipe = Recipe(build_manifest(encoder.spec, classifier, chosen), form, layout, pipeline.batch_size)
    page = _new_report() if output.report else None
    # The page shows every label of an image; the records only as many as were asked for.
    decision = Decision(answers if page else layout.top_k, least)
    with console.Bar("images") as bar:
        inputs.count_ahead(bar)
        with open_records(output.output, recipe, resume=output.resume, screen=bar.above) as file:
            tally = _Tally(bar, file.done, file.failed, quiet=to_terminal)
            with _telling(file, tally, output):
                paths = file.skip(inputs.find({"--output": output.output, "--report": output.report}))
                fed = replace(pipeline, fixed_batches=output.resume)
                records = classify_paths(encoder, classifier, paths, decision, fed)
                write_records(records, [page, file, tally] if page else [file, tally])
    if page and output.report:
        _write_report(page, output.report, recipe.manifest, pipeline)
    return tally.summarise()


@contextmanager
def _telling(file: RecordFile, tally: _Tally, output: OutputOptions) -> Iterator[None]:
    """Say what an earlier run left, and after an interrupt how to go on."""
    if file.begun and file.begun.complete:
        console.say(f"zeroshot: {output.output} is complete already; remove it to begin anew")
    elif file.done:
        console.say(f"zeroshot: continuing after {file.done} records")
    try:
        yield
    except KeyboardInterrupt:
        if file.begun:
            command = "the same command" if output.resume else "the same command with --resume"
            console.say(f"zeroshot: {tally.written} records so far; {command} continues after them")
        elif output.output:
            console.say(f"zeroshot: the {tally.written} records so far are in {output.output}.partial")
        raise


class _Tally:
    """Counts records as they are written, and names the first failures.

    Args:
        bar: Advances with each record.
        written: Records that are there already.
        failed: How many of those are failures.
        quiet: Failures are not named on stderr, because their records stand on the same terminal.
    """

    def __init__(self, bar: console.Bar, written: int, failed: int, *, quiet: bool) -> None:
        self._bar = bar
        self._failures = console.Few(quiet=quiet)
        self.written = written
        self.failed = failed
        bar.begin_at(written)

    def write(self, record: Record) -> None:
        """Count a record that was written."""
        self.written += 1
        if isinstance(record, Failure):
            self.failed += 1
            self._failures.say(f"{record.path}: {record.error}")
        self._bar.advance()

    def summarise(self) -> ExitCode:
        """Say how many inputs could not be read, and return the exit code for that."""
        self._failures.say_rest()
        if self.failed:
            console.say(
                f"zeroshot: {self.failed} of {self.written} inputs could not be read; each has a record with its reason"
            )
        if not self.written:
            console.warn("no paths were given, so there are no records")
        return ExitCode.INCOMPLETE if self.failed else ExitCode.OK


def _new_report() -> ClassifyReport:
    from ..output.report import ClassifyReport

    return ClassifyReport()


def _write_report(page: ClassifyReport, target: Path, manifest: Manifest, pipeline: Pipeline) -> None:
    """Make the page, whose thumbnails are read anew, and write it."""
    from ..output.destination import open_output

    with console.Bar("thumbnails", page.n_thumbnails) as bar:
        document = page.page(manifest, pipeline, bar.advance)
    with open_output(target) as stream:
        stream.write(document)
