"""``zeroshot classify``: pictures in, one record each out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import Device, Engine, Format, Precision, Score
from ..errors import ExitCode, UsageError
from . import console, options

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..encoder import Encoder
    from ..labels import LabelSet
    from ..prompts import TemplateSet

_SHOWN_FAILURES = 20
"""Failures named on stderr one by one; the records name every one of them."""


@console.reports_errors
def classify(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures and folders; `-` reads paths from stdin.", metavar="PATH...", show_default=False),
    ] = None,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    files_from: Annotated[
        str | None,
        typer.Option(
            "--files-from", help="Read paths from a file, one a line, after the other inputs.", metavar="FILE"
        ),
    ] = None,
    from0: Annotated[
        bool, typer.Option("--from0", "-0", help="Lists of paths are separated by NUL, as `find -print0` writes them.")
    ] = False,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Labels listed for each picture.")] = 5,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Below this probability the label is null: unknown.")
    ] = 0.0,
    score: options.ScoreOption = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="How to write records. [default: table on a terminal, else jsonl]"),
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", help="More numbers for each label: similarity, logit.", metavar="A,B,...")
    ] = None,
    output: options.Output = None,
    no_exif: options.NoExif = False,
    max_pixels: options.MaxPixels = None,
    device: options.DeviceOption = Device.AUTO,
    precision: options.PrecisionOption = Precision.AUTO,
    engine: options.EngineOption = Engine.AUTO,
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    image_mean: options.ImageMean = None,
    image_std: options.ImageStd = None,
    interpolation: options.InterpolationOption = None,
    resize_mode: options.ResizeModeOption = None,
) -> ExitCode:
    """Say which label fits each picture best, with probabilities.

    Exactly one record per input, in input order. Exit codes: 0 all well, 1 error, 2 usage, 3 results complete
    but some pictures could not be read, 130 interrupted.
    """
    shown = options.parse_fields(fields)
    overrides = options.preprocessing_overrides(image_mean, image_std, interpolation, resize_mode)
    label_set, template_set = read_labels(labels, labels_file), read_templates(prompts, template)
    check_sources(inputs or [], files_from)
    to_terminal = output is None and sys.stdout.isatty()
    form = format_ or (Format.TABLE if to_terminal else Format.JSONL)

    from ..classify import Decision, Pipeline, available_cores, classify_paths
    from ..engines import load_encoder
    from ..manifest import build_manifest
    from ..output import open_output
    from ..pictures import DEFAULT_MAX_PIXELS, Opening
    from ..render import Layout, make_writer
    from ..results import Failure

    with console.download_bar() as on_progress:
        encoder = load_encoder(
            model,
            pretrained,
            device=device,
            precision=precision,
            engine=engine,
            preprocessing=overrides,
            on_progress=on_progress,
        )
    classifier = prepare_classifier(encoder, label_set, template_set, score)
    opening = Opening(exif=not no_exif, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)
    pipeline = Pipeline(batch_size, workers or available_cores(), opening)
    ranks = min(top_k, len(label_set.answers))
    manifest = build_manifest(encoder.spec, classifier, {"top_k": ranks, "threshold": threshold, "exif": not no_exif})
    layout = Layout(shown, ranks, _width(), colour=to_terminal)
    records = classify_paths(
        encoder, classifier, find_inputs(inputs or [], files_from, from0), Decision(ranks, threshold), pipeline
    )
    failed = written = 0
    with open_output(output) as stream, console.Bar("pictures", shares_terminal=to_terminal) as bar:
        count_ahead(bar, inputs or [], files_from, from0)
        writer = make_writer(form, stream, layout)
        writer.begin(manifest)
        try:
            for record in records:
                with bar.aside():
                    writer.write(record)
                written += 1
                if isinstance(record, Failure):
                    failed += 1
                    if not to_terminal and failed <= _SHOWN_FAILURES:
                        bar.note(f"zeroshot: {record.path}: {record.error}")
                bar.advance()
        except KeyboardInterrupt:
            writer.end(complete=False)
            if output:
                bar.note(f"zeroshot: the {written} records so far are in {output}.partial")
            raise
        writer.end(complete=True)
    if failed > _SHOWN_FAILURES and not to_terminal:
        console.say(f"zeroshot: ... and {failed - _SHOWN_FAILURES} more")
    if failed:
        console.say(f"zeroshot: {failed} of {written} inputs could not be read; each has a record with its reason")
    if not written:
        console.warn("no paths were given, so there are no records")
    return ExitCode.INCOMPLETE if failed else ExitCode.OK


def read_labels(labels: str | None, labels_file: str | None) -> LabelSet:
    """Read the labels from whichever option gave them.

    Raises:
        UsageError: None or both did.
    """
    from ..labels import load_labels, parse_labels

    if labels is not None and labels_file is not None:
        raise UsageError("both --labels and --labels-file are given", "put all labels in the file")
    if labels is None and labels_file is None:
        raise UsageError("no labels", "--labels cat,dog or --labels-file FILE")
    return parse_labels(labels) if labels is not None else load_labels(labels_file or "")


def read_templates(prompts: str | None, template: list[str] | None) -> TemplateSet:
    """Read the template set from whichever option gave it; ``general`` where none did.

    Raises:
        UsageError: Both did.
    """
    from ..prompts import DEFAULT, from_templates, load_templates

    if prompts and template:
        raise UsageError(
            "both --prompts and --template are given", "put the templates into a YAML set, or use one of the two"
        )
    return from_templates(template) if template else load_templates(prompts or DEFAULT)


def prepare_classifier(encoder: Encoder, labels: LabelSet, templates: TemplateSet, score: Score | None) -> Classifier:
    """Build the classifier and tell what a person should know of it."""
    from ..classifier import build_classifier

    classifier = build_classifier(encoder, labels, templates, score)
    for warning in classifier.warnings:
        console.warn(warning)
    return classifier


def check_sources(inputs: list[str], files_from: str | None) -> None:
    """Refuse inputs that cannot be used before the model is loaded."""
    from ..paths import STDIN, check_inputs

    if not inputs and not files_from:
        raise UsageError("no pictures", "name files or folders, `-` for paths on stdin, or --files-from FILE")
    if inputs.count(STDIN) + (files_from == STDIN) > 1:
        raise UsageError("stdin is named twice", "name `-` once")
    for note in check_inputs([path for path in inputs if path != STDIN]):
        console.warn(note)
    if files_from and files_from != STDIN:
        from ..paths import open_list

        open_list(files_from).close()


def find_inputs(inputs: list[str], files_from: str | None, nul: bool) -> Iterator[str]:
    """Yield the path of every picture, in the order of the command line."""
    from ..paths import STDIN, find_pictures, open_list, read_list

    for given in inputs:
        yield from find_pictures(read_list(open_list(STDIN), nul=nul) if given == STDIN else [given])
    if files_from:
        with open_list(files_from) as stream:
            yield from find_pictures(read_list(stream, nul=nul))


def count_ahead(bar: console.Bar, inputs: list[str], files_from: str | None, nul: bool) -> None:
    """Count the inputs beside the run, so that the bar can tell the time left; a stream cannot be counted."""
    from ..paths import STDIN

    if not sys.stderr.isatty() or STDIN in inputs or (files_from and not Path(files_from).is_file()):
        return
    threading.Thread(
        target=lambda: bar.expect(sum(1 for _ in find_inputs(inputs, files_from, nul))), daemon=True
    ).start()


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
