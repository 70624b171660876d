"""``zeroshot classify``: images in, one record each out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError
from ..results import Failure, Record
from . import console, groups, options
from .inputs import (
    SHOWN_FAILURES,
    InputOptions,
    apply_calibration,
    check_readable,
    prepare_classifier,
    read_labels,
    read_templates,
)

if TYPE_CHECKING:
    from ..features.pipeline import Pipeline
    from ..output.report import ClassifyReport
    from ..output.sinks import RecordFile
    from ..results import Manifest


@console.reports_errors
@groups.expand_option_groups
def classify(
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    top_k: options.TopK = 5,
    threshold: options.Threshold = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    format_: options.FormatOption = None,
    fields: options.Fields = None,
    output: options.Output = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --output: continue a file that was cut short (jsonl, csv, tsv).")
    ] = False,
    report: options.Report = None,
    *,
    inputs: InputOptions,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Say which label fits each image best, with probabilities.

    Exactly one record per input, in input order. Exit codes: 0 all well, 1 error, 2 usage, 3 results complete
    but some images could not be read, 130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    shown = options.parse_fields(fields)
    if resume and (output is None or report is not None):
        raise UsageError("--resume continues the file of --output, without --report", "--output FILE --resume")
    label_set, template_set = read_labels(labels, labels_file), read_templates(prompts, template)
    inputs.check()
    check_readable(calibration, "`zeroshot calibrate DIR` writes one")
    to_terminal = output is None and sys.stdout.isatty()
    form = options.choose_record_format(format_, output)

    from ..classifier import Decision, build_manifest, classify_paths
    from ..output.destination import check_output
    from ..output.render.records import Layout
    from ..output.resume import Recipe
    from ..output.sinks import check_target, open_records, write_records

    check_target(output, form, resume=resume)
    check_output(report)
    pipeline = images.pipeline()
    encoder = running.load(model, pretrained, preprocess_overrides)
    classifier = prepare_classifier(encoder, label_set, template_set, score, pipeline.cache)
    classifier, least, chosen = apply_calibration(classifier, encoder.spec, calibration, threshold)
    answers = len(label_set.answers)
    layout = Layout(shown, min(top_k, answers), shutil.get_terminal_size().columns, colour=to_terminal)
    chosen = {"top_k": layout.top_k, "threshold": least} | images.choices(pipeline) | chosen
    manifest = build_manifest(encoder.spec, classifier, chosen)
    recipe = Recipe(manifest, form, layout, pipeline.batch_size)
    page = _new_report() if report else None
    # The page shows every label of an image; the records only as many as were asked for.
    decision = Decision(answers if page else layout.top_k, least)
    with console.Bar("images") as bar:
        inputs.count_ahead(bar)
        with open_records(output, recipe, resume=resume, screen=bar.above) as file:
            tally = _Tally(bar, file.done, file.failed, quiet=to_terminal)
            with _telling(file, tally, output, resume=resume):
                paths = file.skip(inputs.find({"--output": output, "--report": report}))
                fed = replace(pipeline, fixed_batches=resume)
                records = classify_paths(encoder, classifier, paths, decision, fed)
                write_records(records, [page, file, tally] if page else [file, tally])
    if page and report:
        _write_report(page, report, manifest, pipeline)
    return tally.summarise()


@contextmanager
def _telling(file: RecordFile, tally: _Tally, output: Path | None, *, resume: bool) -> Iterator[None]:
    """Say what an earlier run left, and after an interrupt how to go on."""
    if file.begun and file.begun.complete:
        console.say(f"zeroshot: {output} is complete already; remove it to begin anew")
    elif file.done:
        console.say(f"zeroshot: continuing after {file.done} records")
    try:
        yield
    except KeyboardInterrupt:
        if file.begun:
            command = "the same command" if resume else "the same command with --resume"
            console.say(f"zeroshot: {tally.written} records so far; {command} continues after them")
        elif output:
            console.say(f"zeroshot: the {tally.written} records so far are in {output}.partial")
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
        self._quiet = quiet
        self._named = 0
        self.written = written
        self.failed = failed
        bar.begin_at(written)

    def write(self, record: Record) -> None:
        """Count a record that was written."""
        self.written += 1
        if isinstance(record, Failure):
            self.failed += 1
            self._named += 1
            if not self._quiet and self._named <= SHOWN_FAILURES:
                console.say(f"zeroshot: {record.path}: {record.error}")
        self._bar.advance()

    def summarise(self) -> ExitCode:
        """Say how many inputs could not be read, and return the exit code for that."""
        if self._named > SHOWN_FAILURES and not self._quiet:
            console.say(f"zeroshot: ... and {self._named - SHOWN_FAILURES} more")
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
