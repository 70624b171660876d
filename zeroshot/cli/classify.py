"""``zeroshot classify``: images in, one record each out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode, OutputError
from . import console, option_groups, options
from .input_options import InputOptions, check_readable
from .label_options import LearnedLabelOptions
from .model_options import ModelOptions
from .multi_label_runs import MultiLabel, check_multi_label
from .pipeline_options import ImageOptions
from .prior_and_neighbours import FolderStatistics
from .record_options import RecordOptions
from .record_tally import Tally
from .score_adjustments import AnswerOptions, make_ready

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..features.pipeline import Block, Pipeline
    from ..output.record_sinks import RecordFile
    from ..output.report import ClassifyReport
    from ..results import Manifest


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
    output: RecordOptions,
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
    asked = AnswerOptions(label_set, template_set, learned, calibration, threshold, score, folder, multi_label)

    from ..features.pipeline import encode_blocks
    from ..output.partial_records import Recipe
    from ..output.record_sinks import Renamed, open_records, write_records
    from ..scoring import Decision

    pipeline = images.pipeline()
    encoder = model.load_for(inputs.open_run(), learned)
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
        tally = Tally(bar, file, output, layout)
        with _telling(file, tally, output):
            blocks: Iterable[Block] = ready.seen or []
            if ready.seen is None:
                fed = replace(pipeline, fixed_batches=output.continued)
                found, fed = inputs.find_or_reuse(encoder.spec, fed, written, spooled, bar)
                blocks = encode_blocks(encoder, file.skip(found), fed)
            named = Renamed([file, tally], spooled)  # the page reads its images once more
            with _needing_all(output):
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
def _needing_all(output: RecordOptions) -> Iterator[None]:
    """Say that the page is not written where the reader of the records has gone before the last one.

    Raises:
        OutputError: A page was asked for.
    """
    try:
        yield
    except BrokenPipeError as error:
        if not output.report:
            raise
        console.give_up_stdout(error)
        raise OutputError(
            f"{output.report} is not written: stdout was closed before the last record", "--output FILE, or > /dev/null"
        ) from error


@contextmanager
def _telling(file: RecordFile, tally: Tally, output: RecordOptions) -> Iterator[None]:
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
