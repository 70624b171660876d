"""``zeroshot eval``: labelled images in, accuracy out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import ReportFormat
from ..errors import ExitCode, UsageError
from . import console, groups, labelled, options
from .inputs import check_readable, prepare_classifier, read_templates

if TYPE_CHECKING:
    from ..evaluation.evaluate import Run
    from ..prompts.template_sets import TemplateSet

_METRICS = ("top1", "top5", "mean_recall")


@console.reports_errors
@groups.expand_option_groups
def evaluate(
    folder: labelled.Folder = None,
    targets: labelled.Targets = None,
    label_names: labelled.LabelNames = None,
    all_labels: labelled.AllLabels = False,
    split: labelled.Split = labelled.SPLIT,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            help="A template set by name, or a YAML file; repeatable, to compare. [default: general]",
            metavar="NAME|FILE",
        ),
        options.Use.READ,
    ] = None,
    template: options.Template = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="An alias, an architecture, hf-hub:ORG/REPO or a folder; repeatable, to compare. "
            "[default: $ZEROSHOT_MODEL or base]",
            metavar="MODEL",
        ),
        options.Use.READ_FOLDER,
    ] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(
            "--pretrained",
            help="With an architecture: open_clip's weight tag, or a weights file. "
            "With several --model: one for each, in order; '' for an alias.",
            metavar="TAG|FILE",
        ),
        options.Use.READ,
    ] = None,
    score: options.ScoreOption = None,
    format_: labelled.ReportFormatOption = None,
    output: options.Output = None,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", help="Apply the temperature that `calibrate` fitted.", metavar="FILE"),
        options.Use.READ,
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Also write a page to look at: one file, no network. Of several runs, the best.",
            metavar="FILE.html",
        ),
        options.Use.WRITTEN,
    ] = None,
    suspects: Annotated[
        int,
        typer.Option("--suspects", min=0, help="List this many images whose label is most likely wrong.", metavar="N"),
    ] = 0,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            help="Exit 1 if a metric is lower, such as top1=0.8; repeatable. Of several runs the best counts.",
            metavar="METRIC=P",
        ),
    ] = None,
    *,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Measure accuracy on labelled images: a folder with one subfolder a label.

    The mapping from folders to labels is printed on stderr, and whatever does not match is named. With several
    --prompts or --model every combination is measured, each image encoded once a model. Exit codes: 0 all well,
    1 error or --fail-under missed, 2 usage, 3 measured but for images that could not be read, 130 interrupted,
    143 stopped by SIGTERM, 129 by a hang-up.
    """
    bars = [options.parse_bar(text, _METRICS) for text in fail_under or []]
    models = list(_pair_models(model, pretrained))
    template_sets = _read_template_sets(prompts, template)
    form = options.choose_report_format(format_, output)
    check_readable(calibration, "`zeroshot calibrate DIR` writes one")

    from ..classifier import build_manifest
    from ..evaluation.calibration_file import load_calibration
    from ..evaluation.compare import pair
    from ..evaluation.evaluate import Run
    from ..evaluation.evaluate import evaluate as measure
    from ..evaluation.label_issues import find_label_issues
    from ..output.destination import check_apart, check_output, open_output
    from ..output.render import evaluation as render_eval

    with labelled.open_source(folder, targets, label_names, all_labels, split) as source:
        dataset = source.dataset
        if source.templates and not prompts and not template:
            template_sets = [source.templates]
        check_apart({"--output": output, "--report": report}, source.files_read)
        check_output(output)
        check_output(report)
        pipeline = images.pipeline(as_stored=source.public)
        choices = images.choices(pipeline) | {"data": folder or targets}
        runs: list[Run] = []
        for name, tag in models:
            encoder = running.load(name, tag, preprocess_overrides)
            # Every classifier is built before an image is read, so that bad labels or prompts are named at once.
            classifiers = [
                prepare_classifier(encoder, dataset.labels, templates, score, pipeline.cache)
                for templates in template_sets
            ]
            if calibration:
                fitted = [load_calibration(calibration, encoder.spec, classifier) for classifier in classifiers]
                classifiers = [found.apply(each) for found, each in zip(fitted, classifiers, strict=True)]
                choices["calibration"] = fitted[0].manifest()
            data = labelled.encode(encoder, source, pipeline)
            for classifier in classifiers:
                manifest = build_manifest(encoder.spec, classifier, choices)
                runs.append(Run(measure(data, classifier, dataset.keys), manifest))
        runs.sort(key=lambda run: -run.result.metrics.top1.value)
        best = runs[0]
        suspected = find_label_issues(best.result, dataset.labels.names, suspects)
        colour = output is None and sys.stdout.isatty()
        document: dict[str, Any]
        if len(runs) > 1:
            p_values = [
                pair(best.result.right, run.result.right).p if run.result.data.paths == best.result.data.paths else None
                for run in runs
            ]
            document = render_eval.grid_to_document(runs, dataset, p_values) if form is ReportFormat.JSON else {}
            text = render_eval.grid_to_table(runs, p_values, colour=colour)
        else:
            document = render_eval.to_document(best, dataset, suspected) if form is ReportFormat.JSON else {}
            text = render_eval.to_table(best, suspected, colour=colour)
        with open_output(output) as stream:
            stream.write(render_eval.encode(document) if document else text.encode("utf-8", "backslashreplace"))
        if report:
            from ..output.report import eval_report

            with console.Bar("thumbnails") as bar, open_output(report) as stream:
                stream.write(eval_report(best, pipeline, files=source.files, on_progress=bar.advance))
        below = [f"{name} is {value:.4f}, under {bar}" for name, bar in bars if (value := _value(best, name)) < bar]
        for line in below:
            console.say(f"zeroshot: {line}")
        if below:
            return ExitCode.ERROR
        return ExitCode.INCOMPLETE if best.result.data.failures else ExitCode.OK


def _value(run: Run, name: str) -> float:
    return float(getattr(run.result.metrics, name).value)


def _read_template_sets(prompts: list[str] | None, template: list[str] | None) -> list[TemplateSet]:
    if prompts and len(set(prompts)) < len(prompts):
        raise UsageError("a set is given twice with --prompts", "name each once")
    return [read_templates(name, template) for name in prompts] if prompts else [read_templates(None, template)]


def _pair_models(models: list[str] | None, pretrained: list[str] | None) -> Iterator[tuple[str | None, str | None]]:
    """Yield each model with its weight tag.

    Raises:
        UsageError: There are tags, but not one for each model.
    """
    names: list[str | None] = [*models] if models else [None]
    if pretrained and len(pretrained) != len(names):
        raise UsageError(
            f"--pretrained is given {len(pretrained)} times for {len(names)} models",
            "give one for each --model, in order; '' for an alias",
        )
    for index, name in enumerate(names):
        yield name, (pretrained[index] or None) if pretrained else None
