"""``zeroshot eval``: labelled pictures in, accuracy out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..choices import Device, Engine, Precision, ReportFormat
from ..errors import ExitCode, UsageError
from . import console, options
from .classify import prepare_classifier, read_templates

_METRICS = ("top1", "top5", "mean_recall")


@console.reports_errors
def evaluate(
    folder: Annotated[
        str | None, typer.Argument(help="A folder with one subfolder a label.", metavar="DIR", show_default=False)
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option("--targets", help="Instead of a folder: a table with the columns path,label.", metavar="FILE.csv"),
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(
            "--label-names",
            help="Words for the folders' names: YAML, JSON or lines; or `imagenet` for synset ids.",
            metavar="FILE",
        ),
    ] = None,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="With --label-names: keep the names without a folder as labels.")
    ] = False,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    score: options.ScoreOption = None,
    format_: Annotated[
        ReportFormat | None,
        typer.Option("--format", "-f", help="How to write the result. [default: table on a terminal, else json]"),
    ] = None,
    output: options.Output = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under", help="Exit 1 if a metric is lower, such as top1=0.8; repeatable.", metavar="METRIC=P"
        ),
    ] = None,
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
    """Measure accuracy on labelled pictures: a folder with one subfolder a label.

    The mapping from folders to labels is printed on stderr, and whatever does not match is named.
    """
    if (folder is None) == (targets is None):
        raise UsageError("give a folder or --targets FILE.csv, one of the two", "zeroshot eval ./val")
    bars = [options.parse_bar(text, _METRICS) for text in fail_under or []]
    overrides = options.preprocessing_overrides(image_mean, image_std, interpolation, resize_mode)
    template_set = read_templates(prompts, template)
    form = format_ or (ReportFormat.TABLE if output is None and sys.stdout.isatty() else ReportFormat.JSON)

    from .. import render_eval
    from ..classify import Pipeline, available_cores
    from ..datasets import load_folder, load_label_names, load_targets
    from ..engines import load_encoder
    from ..evaluate import encode_dataset
    from ..evaluate import evaluate as measure
    from ..manifest import build_manifest
    from ..output import open_output
    from ..pictures import DEFAULT_MAX_PIXELS, Opening

    names = load_label_names(label_names) if label_names else None
    dataset = load_targets(targets, names) if targets else load_folder(folder or "", names, all_labels=all_labels)
    for line in render_eval.mapping_lines(dataset):
        console.say(line)
    for note in dataset.notes:
        console.warn(note)
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
    classifier = prepare_classifier(encoder, dataset.labels, template_set, score)
    pipeline = Pipeline(
        batch_size, workers or available_cores(), Opening(not no_exif, max_pixels or DEFAULT_MAX_PIXELS)
    )
    with console.Bar("pictures", len(dataset.paths)) as bar:
        data = encode_dataset(encoder, dataset, pipeline, bar.advance)
    for failure in data.failures[:20]:
        console.say(f"zeroshot: {failure.path}: {failure.error}")
    result = measure(data, classifier, dataset.keys)
    manifest = build_manifest(encoder.spec, classifier, {"exif": not no_exif, "data": folder or targets})
    with open_output(output) as stream:
        if form is ReportFormat.JSON:
            stream.write(render_eval.to_document(result, dataset, manifest))
        else:
            stream.write(
                render_eval.to_table(result, manifest, colour=output is None and sys.stdout.isatty()).encode(
                    "utf-8", "backslashreplace"
                )
            )
    if data.failures:
        console.say(
            f"zeroshot: {len(data.failures)} of {len(dataset.paths)} pictures could not be read and count in no metric"
        )
    values = {"top1": result.top1, "top5": result.top5, "mean_recall": result.mean_recall}
    below = [f"{name} is {values[name]:.4f}, under {bar}" for name, bar in bars if values[name] < bar]
    for line in below:
        console.say(f"zeroshot: {line}")
    if below:
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if data.failures else ExitCode.OK
