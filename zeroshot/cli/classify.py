"""``zeroshot classify``: images in, one record each out."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import Format
from ..errors import ExitCode, UsageError, nearest
from ..messages import some_of
from ..results import Failure
from . import console, option_groups, options
from .answering import Asked, make_ready
from .folder_statistics import FolderStatistics
from .input_options import InputOptions, check_readable
from .label_options import LearnedLabelOptions
from .model_options import ModelOptions
from .multi_label import MultiLabel, check_multi_label
from .option_values import check_page, choose_record_format, parse_fields
from .pipeline_options import ImageOptions

if TYPE_CHECKING:
    from ..answers import Answers
    from ..encoder import Encoder
    from ..features.pipeline import Block, Pipeline
    from ..output.render.records import Layout
    from ..output.report import ClassifyReport
    from ..output.sinks import RecordFile
    from ..prompts.labels import LabelSet
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
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="With --output: add the inputs that have no record yet, also to a file that --resume finished.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="Write only the records of images that get this label; repeatable.",
            metavar="LABEL",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None
    paths_only: Annotated[
        bool,
        typer.Option(
            "--paths",
            help="Write only the paths of the images that get a label, one a line.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False
    print0: Annotated[
        bool,
        typer.Option(
            "--print0", help="As --paths, each path ended by NUL, for `xargs -0`.", rich_help_panel=options.Panel.OUTPUT
        ),
    ] = False
    report: options.Report = None
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print nothing but warnings and errors on stderr: no progress, no summary.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False

    @property
    def form(self) -> Format:
        """The format of the records."""
        return choose_record_format(self.format_, self.output)

    @property
    def continued(self) -> bool:
        """Whether records that are there already are kept."""
        return self.resume or self.append

    @property
    def to_terminal(self) -> bool:
        """Whether the records are shown on a terminal."""
        return self.output is None and sys.stdout.isatty()

    def check(self, labels: LabelSet) -> None:
        """Refuse what cannot be written, before the work whose results it is for.

        Raises:
            OutputError: A file cannot be written, or not be continued.
            UsageError: Options contradict each other, or name a label that is no answer.
        """
        from ..output.destination import check_output
        from ..output.sinks import check_target

        parse_fields(self.fields)
        check_page(self.report)
        way = "--append" if self.append else "--resume"
        if self.continued and (self.output is None or self.report is not None):
            raise UsageError(f"{way} continues the file of --output, without --report", f"--output FILE {way}")
        if self.continued and (self.only or self.paths_only or self.print0):
            raise UsageError(f"{way} needs a record of every input", "leave out --only, --paths and --print0")
        if (self.paths_only or self.print0) and (self.format_ or self.fields):
            raise UsageError("--paths and --print0 write paths alone", "leave out --format and --fields")
        if parse_fields(self.fields) != parse_fields(None) and self.form is Format.TABLE:
            raise UsageError("--fields: a table shows probabilities alone", "--format jsonl, or csv, tsv, json")
        self._check_only(labels)
        check_target(self.output, self.form, resume=self.continued)
        check_output(self.report)

    def _check_only(self, labels: LabelSet) -> None:
        """Refuse a label of --only that is no answer.

        Raises:
            UsageError: Names the group that the label is in, or the label that is nearest.
        """
        names = [name for name, _ in labels.answers]
        for label in self.only or []:
            group = next((name for name, members in labels.groups if label in {labels.names[at] for at in members}), "")
            if label not in names and group:
                raise UsageError(
                    f"--only: {label!r} is reported as its group {group!r}", f"--only {shlex.quote(group)}"
                )
            if label not in names:
                raise UsageError(f"--only: no label {label!r}{nearest(label, names)}", "name one of --labels")

    def layout(self, n_answers: int, *, several: bool = False) -> Layout:
        """Return what of a record is written."""
        from ..output.render.records import Layout

        return Layout(
            parse_fields(self.fields),
            min(self.top_k, n_answers),
            shutil.get_terminal_size().columns if self.to_terminal else None,
            terminal=self.to_terminal,
            only=tuple(self.only or ()),
            path_end=b"\0" if self.print0 else b"\n" if self.paths_only else b"",
            several=several,
        )


@console.reports_errors
@option_groups.expand_option_groups
def classify(
    threshold: options.Threshold = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    multi_label: MultiLabel = False,
    *,
    inputs: InputOptions,
    labels: LearnedLabelOptions,
    folder: FolderStatistics,
    model: ModelOptions,
    output: OutputOptions,
    images: ImageOptions,
) -> ExitCode:
    """Say which label fits each image best, with probabilities.

    Exactly one record per input, in input order. Exit codes: 0 all well, 1 error, 2 usage, 3 results complete
    but some images could not be read, 130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    begin = time.monotonic()
    if output.quiet:
        console.be_quiet()
    if multi_label:
        check_multi_label(
            score=score, learned=labels.learned, prior=folder.prior, neighbours=folder.neighbours, report=output.report
        )
    label_set, template_set, learned = labels.read_all()
    inputs.check(runs=True)
    folder.check(inputs, resume=output.continued)
    folder.load_prior(label_set)
    check_readable(calibration, f"`zeroshot calibrate{' --multi-label' * multi_label} DIR` writes one")
    output.check(label_set)
    asked = Asked(label_set, template_set, learned, calibration, threshold, score, folder, multi_label)

    from ..features.pipeline import encode_blocks
    from ..output.partial_records import Recipe
    from ..output.sinks import Renamed, open_records, write_records
    from ..scoring import Decision

    pipeline = images.pipeline()
    encoder = model.load_for(inputs.open_run())
    written = {"--output": output.output, "--report": output.report}
    layout = output.layout(len(label_set.answers), several=multi_label)
    chosen = {"top_k": layout.top_k} | images.choices(pipeline)
    ready = make_ready(encoder, asked, pipeline.cache, chosen, lambda: _encode_all(encoder, inputs, written, pipeline))
    recipe = Recipe(ready.manifest, output.form, layout, pipeline.batch_size)
    spooled: dict[str, str] = {}
    page = _new_report(spooled) if output.report else None
    # The page shows every label of an image; the records only as many as were asked for.
    top_k = len(label_set.answers) if page else layout.top_k
    decision = Decision(top_k, ready.threshold, alone=output.continued, several=multi_label)
    with (
        console.Bar("images") as bar,
        open_records(output.output, recipe, resume=output.resume, append=output.append, screen=bar.above) as file,
    ):
        tally = _Tally(bar, file, output, layout)
        with _telling(file, tally, output):
            blocks: Iterable[Block] = ready.seen or []
            if ready.seen is None:
                fed = replace(pipeline, fixed_batches=output.continued)
                found, fed = inputs.find_or_reuse(encoder.spec, fed, written, spooled, bar)
                blocks = encode_blocks(encoder, file.skip(found), fed)
            named = Renamed([file, tally], spooled)  # the page reads its images once more
            write_records(ready.answering.answers(blocks, decision), [page, named] if page else [named])
    if page and output.report:
        _write_report(page, output.report, recipe.manifest, pipeline)
    code = tally.finish()
    if sys.stderr.isatty():
        console.note(tally.summary(time.monotonic() - begin, [output.output, output.report]))
    return code


def _encode_all(
    encoder: Encoder, inputs: InputOptions, written: Mapping[str, Path | None], pipeline: Pipeline
) -> list[Block]:
    """Encode everything before the first record; the features stay in memory, so that nothing is read twice."""
    from ..features.pipeline import encode_blocks

    kept = []
    with console.Bar("images") as bar:
        found, fed = inputs.find_or_reuse(encoder.spec, pipeline, written, bar=bar)
        for block in encode_blocks(encoder, found, fed):
            kept.append(block)
            bar.advance(len(block.paths))
    return kept


@contextmanager
def _telling(file: RecordFile, tally: _Tally, output: OutputOptions) -> Iterator[None]:
    """Say what an earlier run left, and after an interrupt how to go on."""
    if file.begun and file.begun.complete:
        console.note(f"{output.output} is complete already; --append adds new inputs; remove it to start over")
    elif file.done:
        console.note(f"continuing after {file.done} records")
    try:
        yield
    except KeyboardInterrupt:
        if file.begun:
            command = "the same command" if output.continued else "the same command with --resume"
            command += " and without --report" if output.report else ""
            console.say(f"zeroshot: {tally.written} records so far; {command} continues after them")
        elif output.output:
            console.say(f"zeroshot: the records so far are in {output.output}.partial")
        raise


class _Tally:
    """Counts records as they are written, and names the first failures.

    On a terminal a failure is named behind the rows, and only if its record does not give its reason whole.

    Args:
        bar: Advances with each record.
        file: Where records go, and how many are there already.
        output: As asked for.
        layout: What of a record is written.
    """

    def __init__(self, bar: console.Bar, file: RecordFile, output: OutputOptions, layout: Layout) -> None:
        self._bar = bar
        self._output = output
        self._layout = layout
        self._recorded = not (layout.only or layout.path_end)
        self._failures = console.Few(only_here=not self._recorded)
        self._waiting: list[str] = []
        self._before = (file.done, file.failed)
        self._labels: Counter[str | None] = Counter()
        self.written = file.done
        self.failed = file.failed
        bar.begin_at(file.done)

    def write_all(self, answers: Answers) -> None:
        """Count records that were written."""
        self.written += len(answers)
        self.failed += len(answers.errors)
        for place in sorted(answers.errors):
            self._name(Failure(answers.paths[place], answers.errors[place]))
        self._labels.update(answers.given_labels())
        self._bar.advance(len(answers))

    def _name(self, failure: Failure) -> None:
        from ..output.render.formats import shows_whole

        message = f"{failure.path}: {failure.error}"
        if not self._output.to_terminal:
            self._failures.say(message)
        elif not shows_whole(self._output.form, self._layout, failure):
            self._waiting.append(message if len(self._waiting) < self._failures.MOST else "")  # counted, not kept

    def finish(self) -> ExitCode:
        """Say how many inputs could not be read, and return the exit code for that."""
        for message in self._waiting:
            self._failures.say(message)
        self._failures.say_rest()
        if self.failed:
            where = "; each has a record with its reason" if self._recorded else ", and have no record"
            console.say(f"zeroshot: {self.failed} of {self.written} inputs could not be read{where}")
        if not self.written:
            console.warn("no paths were given, so there are no records")
        return ExitCode.INCOMPLETE if self.failed else ExitCode.OK

    def summary(self, seconds: float, targets: Sequence[Path | None]) -> str:
        """Return one line about this run: counts by label, unknown, failed, seconds, where the results are."""
        before, failed_before = self._before
        found = [f"{label} {count}" for label, count in self._labels.most_common() if label is not None]
        parts = [f"{self.written - before} images in {seconds:.1f} s: {some_of(found, 8) or 'no label'}"]
        parts += [f"{self._labels[None]} unknown"] if self._labels[None] else []
        parts += [f"{self.failed - failed_before} failed"] if self.failed > failed_before else []
        named = [str(target) for target in targets if target]
        parts += [f"in {' and '.join(named)}"] if named else []
        return "; ".join(parts)


def _new_report(names: Mapping[str, str]) -> ClassifyReport:
    from ..output.report import ClassifyReport

    return ClassifyReport(names)


def _write_report(page: ClassifyReport, target: Path, manifest: Manifest, pipeline: Pipeline) -> None:
    """Make the page, whose thumbnails are read anew, and write it."""
    from ..output.destination import open_output

    with console.Bar("thumbnails", page.n_thumbnails) as bar:
        document = page.page(manifest, pipeline, bar.advance)
    with open_output(target) as stream:
        stream.write(document)
