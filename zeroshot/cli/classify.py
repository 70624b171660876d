"""``zeroshot classify``: pictures in, one record each out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Format
from ..errors import ExitCode, UsageError
from . import console, groups, options
from .inputs import (
    SHOWN_FAILURES,
    InputOptions,
    check_readable,
    prepare_classifier,
    read_labels,
    read_templates,
)

if TYPE_CHECKING:
    from ..features.pipeline import Pipeline
    from ..output.render.records import Writer
    from ..output.report import ClassifyReport
    from ..results import Manifest, Record


@console.reports_errors
@groups.expand_option_groups
def classify(
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, help="Labels listed for each picture.", metavar="N")
    ] = 5,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            help="Below this probability the label is null: unknown. [default: 0]",
            metavar="P",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="Apply the temperature and threshold that `calibrate` fitted.", metavar="FILE"
        ),
        options.Use.READ,
    ] = None,
    score: options.ScoreOption = None,
    format_: options.FormatOption = None,
    fields: Annotated[
        str | None, typer.Option("--fields", help="More numbers for each label: similarity, logit.", metavar="A,B,...")
    ] = None,
    output: options.Output = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --output: continue a file that was cut short (jsonl, csv, tsv).")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Also write a page to look at: one file, no network.", metavar="FILE.html"),
        options.Use.WRITTEN,
    ] = None,
    *,
    inputs: InputOptions,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Say which label fits each picture best, with probabilities.

    Exactly one record per input, in input order. Exit codes: 0 all well, 1 error, 2 usage, 3 results complete
    but some pictures could not be read, 130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    shown = options.parse_fields(fields)
    if resume and (output is None or report is not None):
        raise UsageError("--resume continues the file of --output, without --report", "--output FILE --resume")
    label_set, template_set = read_labels(labels, labels_file), read_templates(prompts, template)
    inputs.check()
    check_readable(calibration, "`zeroshot calibrate DIR` writes one")
    to_terminal = output is None and sys.stdout.isatty()
    form = format_ or (Format.TABLE if to_terminal else Format.JSONL)

    from ..classifier import Decision, build_manifest, classify_paths
    from ..evaluation.calibration_file import load_calibration
    from ..output.destination import check_output, open_output
    from ..output.render.records import Layout, make_writer
    from ..output.resume import Recipe, check_resumable, open_resumable

    if resume and output:
        check_resumable(output, form)
    else:
        check_output(output)
    check_output(report)
    pipeline = images.pipeline()
    encoder = running.load(model, pretrained, preprocess_overrides)
    classifier = prepare_classifier(encoder, label_set, template_set, score, pipeline.cache)
    fitted = load_calibration(calibration, encoder.spec, classifier) if calibration else None
    if fitted:
        classifier = fitted.apply(classifier)
    least = threshold if threshold is not None else (fitted.threshold if fitted else None) or 0.0
    answers = len(label_set.answers)
    ranks = min(top_k, answers)
    choices = {"top_k": ranks, "threshold": least} | images.choices(pipeline)
    choices |= {"calibration": fitted.manifest()} if fitted else {}
    manifest = build_manifest(encoder.spec, classifier, choices)
    layout = Layout(shown, ranks, shutil.get_terminal_size().columns, colour=to_terminal)
    # The page shows every label of a picture; the records only as many as were asked for.
    decision = Decision(answers if report else ranks, least)
    paths = inputs.find({"--output": output, "--report": report})
    page = _new_report() if report else None
    with console.Bar("pictures", shares_terminal=to_terminal) as bar:
        inputs.count_ahead(bar)
        if resume and output:
            with open_resumable(output, Recipe(manifest, form, layout, pipeline.batch_size)) as begun:
                writer = make_writer(form, begun.stream, layout)
                if not begun.done:
                    writer.begin(manifest)
                if begun.complete:
                    bar.note(f"zeroshot: {output} is complete already; remove it to begin anew")
                elif begun.done:
                    bar.note(f"zeroshot: continuing after {begun.done} records")
                rest = begun.skip(paths)
                tally = _Tally(bar, begun.done, begun.failed, quiet=False)
                exact = replace(pipeline, fixed_batches=True)
                try:
                    tally.write(classify_paths(encoder, classifier, rest, decision, exact), writer)
                except KeyboardInterrupt:
                    bar.note(f"zeroshot: {tally.written} records so far; the same command continues after them")
                    raise
        else:
            with open_output(output) as stream:
                writer = make_writer(form, stream, layout)
                with bar.aside():
                    writer.begin(manifest)
                tally = _Tally(bar, 0, 0, quiet=to_terminal)
                try:
                    tally.write(classify_paths(encoder, classifier, paths, decision, pipeline), writer, page, ranks)
                except KeyboardInterrupt:
                    with bar.aside():
                        writer.end(complete=False)
                    if output:
                        bar.note(f"zeroshot: the {tally.written} records so far are in {output}.partial")
                    raise
                with bar.aside():
                    writer.end(complete=True)
    if page and report:
        _write_report(page, report, manifest, pipeline)
    return tally.summarise()


class _Tally:
    """Writes records as they come, and counts them.

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
        bar.advance(written)

    def write(
        self, records: Iterable[Record], writer: Writer, page: ClassifyReport | None = None, ranks: int | None = None
    ) -> None:
        """Write each record, and name the first failures."""
        from ..results import Failure

        for record in records:
            if page:
                page.add(record)
            if not isinstance(record, Failure):
                record = replace(record, top=record.top[:ranks])
            with self._bar.aside():
                writer.write(record)
            self.written += 1
            if isinstance(record, Failure):
                self.failed += 1
                self._named += 1
                if not self._quiet and self._named <= SHOWN_FAILURES:
                    self._bar.note(f"zeroshot: {record.path}: {record.error}")
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
