"""``zeroshot eval``: labelled pictures in, accuracy out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import ReportFormat
from ..errors import ExitCode, OutputError, UsageError
from . import console, groups, labelled, options
from .inputs import check_readable, prepare_classifier, read_templates

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation, Run
    from ..prompts.template_sets import TemplateSet

_METRICS = ("top1", "top5", "mean_recall")
_DRAWINGS = ("confusion", "reliability", "risk-coverage")


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
    ] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(
            "--pretrained",
            help="With an architecture: open_clip's weight tag, or a weights file. "
            "With several --model: one for each, in order; '' for an alias.",
            metavar="TAG|FILE",
        ),
    ] = None,
    score: options.ScoreOption = None,
    format_: labelled.ReportFormatOption = None,
    output: options.Output = None,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", help="Apply the temperature that `calibrate` fitted.", metavar="FILE"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Also write a page to look at: one file, no network. Of several runs, the best.",
            metavar="FILE.html",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots", help="Also write the confusion matrix and the curves as SVG into a folder.", metavar="DIR"
        ),
    ] = None,
    suspects: Annotated[
        int,
        typer.Option(
            "--suspects", min=0, help="List this many pictures whose label is most likely wrong.", metavar="N"
        ),
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
    """Measure accuracy on labelled pictures: a folder with one subfolder a label.

    The mapping from folders to labels is printed on stderr, and whatever does not match is named. With several
    --prompts or --model every combination is measured, each picture encoded once a model. Exit codes: 0 all well,
    1 error or --fail-under missed, 2 usage, 3 measured but for pictures that could not be read, 130 interrupted,
    143 stopped by SIGTERM, 129 by a hang-up.
    """
    bars = [options.parse_bar(text, _METRICS) for text in fail_under or []]
    models = list(_pair_models(model, pretrained))
    template_sets = _read_template_sets(prompts, template)
    form = labelled.choose_format(format_, output)
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
        drawn = {f"--plots {name}": plots / f"{name}.svg" for name in _DRAWINGS} if plots else {}
        written = {"--output": output, "--report": report, **drawn}
        check_apart(written, [targets, label_names, calibration, *(prompts or [])])
        if plots:
            _make_folder(plots)
        for target in written.values():
            check_output(target)
        pipeline = images.pipeline(as_stored=source.public)
        choices = images.choices(pipeline) | {"data": folder or targets}
        runs: list[Run] = []
        for name, tag in models:
            encoder = running.load(name, tag, preprocess_overrides)
            # Every classifier is built before a picture is read, so that bad labels or prompts are named at once.
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
        if plots:
            _write_plots(plots, best.result)
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}", "give another --plots") from error


def _write_plots(folder: Path, result: Evaluation) -> None:
    """Write the confusion matrix and the curves as SVG.

    Raises:
        OutputError: A file cannot be written.
    """
    from ..evaluation import statistics
    from ..output.destination import open_output
    from ..output.report import plots

    names = [label.label for label in result.per_label]
    drawings = (
        plots.confusion(result.confusion, names, standalone=True),
        plots.reliability(result.reliability, standalone=True),
        plots.risk_coverage(statistics.thin(result.risk), standalone=True),
    )
    for name, drawing in zip(_DRAWINGS, drawings, strict=True):
        with open_output(folder / f"{name}.svg") as stream:
            stream.write(drawing.encode("utf-8", "backslashreplace") + b"\n")


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
