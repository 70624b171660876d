"""``zeroshot eval``: labelled images in, accuracy out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import ReportFormat, Score
from ..errors import ExitCode, UsageError
from . import console, labelled_image_options, option_groups, options
from .eval_few_shot import parse_shots, write_curve
from .input_options import check_readable
from .label_options import read_learned, read_templates
from .model_options import ModelListOptions, ModelOptions
from .multi_label_runs import MultiLabel, check_multi_label, evaluate_several
from .option_values import check_page, choose_report_format, parse_bar
from .pipeline_options import ImageOptions
from .prepare_classifier import prepare_classifier
from .prior_and_neighbours import FolderStatistics

if TYPE_CHECKING:
    from ..evaluation.evaluate import EncodedDataset, Run
    from ..evaluation.labelled_folders import Dataset
    from ..evaluation.learned_file import LearnedFile
    from ..features.pipeline import Pipeline
    from ..prompts.template_sets import TemplateSet
    from ..results import Manifest
    from ..scoring import Classifier

_METRICS = ("top1", "top5", "mean_recall")


@console.reports_errors
@option_groups.expand_option_groups
def evaluate(
    prompts: options.SeveralPrompts = None,
    template: options.Template = None,
    score: options.ScoreOption = None,
    calibration: options.Calibration = None,
    learned: options.Learned = None,
    multi_label: MultiLabel = False,
    format_: options.ReportFormatOption = None,
    output: options.Output = None,
    report: options.Report = None,
    label_issues: Annotated[
        int,
        typer.Option(
            "--label-issues",
            min=0,
            help="List this many images whose label is most likely wrong.",
            metavar="N",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = 0,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            help="Exit 1 if top1, top5 or mean_recall is lower, as in top1=0.8; repeatable. The best run counts.",
            metavar="METRIC=P",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    few_shot: Annotated[
        str | None,
        typer.Option(
            "--few-shot",
            help="Instead: accuracy of `learn` and other methods with this many examples per label.",
            metavar="1,2,4,...",
            rich_help_panel=options.Panel.ADVANCED,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            max=100,
            help="With --few-shot: how often examples are drawn (5).",
            metavar="N",
            rich_help_panel=options.Panel.ADVANCED,
        ),
    ] = None,
    *,
    data: labelled_image_options.LabelledOptions,
    folder: FolderStatistics,
    models: ModelListOptions,
    images: ImageOptions,
) -> ExitCode:
    """Measure accuracy on labelled images: a folder with one subfolder per label.

    The mapping from folders to labels is printed on stderr, and whatever does not match is named. Several --prompts,
    --model or --precision: every combination is measured, each image encoded once per model, and the page of --report
    shows the best. Exit codes: 0 all well, 1 error or --fail-under missed, 2 usage, 3 measured but for images that
    could not be read, 130 interrupted, 143 stopped by SIGTERM, 129 by a hang-up.
    """
    if multi_label:
        check_multi_label(
            score=score, learned=learned, prior=folder.prior, neighbours=folder.neighbours, report=report,
            label_issues=label_issues, fail_under=fail_under, few_shot=few_shot,
        )  # fmt: skip
    bars = [parse_bar(text, _METRICS) for text in fail_under or []]
    weights = read_learned(learned)
    chosen_models, template_sets = models.each(), _read_template_sets(prompts, template, weights)
    shots = parse_shots(few_shot) if few_shot else ()
    if seeds is not None and not shots:
        raise UsageError("--seeds says how often --few-shot draws examples", "add --few-shot 1,2,4,8,16")
    if shots and (
        any((learned, calibration, folder.prior, folder.neighbours, report, bars, label_issues))
        or max(len(chosen_models), len(template_sets)) > 1
    ):
        raise UsageError(
            "--few-shot compares ways to learn for one model and template set; it takes one --model, one --prompts, and"
            " no --learned, --calibration, --prior, --neighbours, --report, --fail-under or --label-issues",
            "zeroshot eval DIR --few-shot 1,2,4,8,16",
        )
    form = choose_report_format(format_, output)
    check_page(report)
    check_readable(calibration, f"`zeroshot calibrate{' --multi-label' * multi_label} DIR` writes one")
    if label_issues and max(len(chosen_models), len(template_sets)) > 1:
        raise UsageError("--label-issues lists those of one run", "name one --model and one --prompts")
    if multi_label and max(len(chosen_models), len(template_sets)) > 1:
        raise UsageError("--multi-label measures one model and template set at a time", "name one of each")
    with data.open(several=multi_label) as source:
        source = labelled_image_options.with_learned_labels(source, weights)
        if source.templates and not prompts and not template and not weights:
            template_sets = [source.templates]
        source.check_apart(output=output, report=report)
        if multi_label:
            return evaluate_several(
                source, chosen_models[0], images, template_sets[0], calibration, form, output, data.named
            )
        measuring = _Measuring(source, template_sets, images, _Applied(score, weights, calibration, folder))
        if shots:
            (one,) = measuring.encode(chosen_models[0], data.named)
            write_curve(one.data, one.classifier, shots, seeds or 5, one.manifest, form, output)
            return ExitCode.INCOMPLETE if one.data.failures else ExitCode.OK
        runs = [run for model in chosen_models for run in measuring.measure(model, data.named)]
        runs.sort(key=lambda run: -run.result.metrics.top1.value)
        _write_result(runs, source.dataset, label_issues, form, output)
        if report:
            _write_report(runs[0], source, measuring.pipeline, report, label_issues)
    below = [f"{name} is {value:.4f}, under {bar}" for name, bar in bars if (value := _value(runs[0], name)) < bar]
    for line in below:
        console.say(f"zeroshot: {line}")
    if below:
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if runs[0].result.data.failures else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Applied:
    """What is applied to the classifier of the texts, in this order."""

    score: Score | None
    learned: LearnedFile | None
    calibration: Path | None
    folder: FolderStatistics


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Labelled images as a model sees them, and a classifier without what the images say of each other."""

    data: EncodedDataset
    classifier: Classifier
    manifest: Manifest
    threshold: float | None


class _Measuring:
    """Measures one model after the other on the same labelled images, with every template set."""

    def __init__(
        self,
        source: labelled_image_options.LabelledImages,
        template_sets: Sequence[TemplateSet],
        images: ImageOptions,
        applied: _Applied,
    ) -> None:
        self._source, self._template_sets, self._applied = source, template_sets, applied
        self.pipeline: Pipeline = images.pipeline(as_stored=source.public)
        self._choices = images.choices(self.pipeline)

    def encode(self, model: ModelOptions, named: str | None) -> list[_Encoded]:
        """Return the images as the model sees them, with a classifier for each template set."""
        from ..classifier import build_manifest
        from ..evaluation.calibration_file import load_calibration

        labels, applied, choices = self._source.dataset.labels, self._applied, self._choices | {"data": named}
        choices |= {"learned": applied.learned.manifest()} if applied.learned else {}
        encoder = model.load_for(self._source.stored, applied.learned)
        # Every classifier is built before an image is read, so that bad labels or prompts are named at once.
        classifiers = [
            prepare_classifier(encoder, labels, templates, applied.score, self.pipeline.cache, applied.learned)
            for templates in self._template_sets
        ]
        least: list[float | None] = [None] * len(classifiers)
        if applied.calibration:
            fitted = [load_calibration(applied.calibration, encoder.spec, classifier) for classifier in classifiers]
            classifiers = [found.apply(each) for found, each in zip(fitted, classifiers, strict=True)]
            least = [found.threshold for found in fitted]
            choices["calibration"] = fitted[0].manifest()
        data = labelled_image_options.encode(encoder, self._source, self.pipeline)
        labelled_image_options.warn_of_examples(data, applied.learned)
        return [
            _Encoded(data, each, build_manifest(encoder.spec, each, choices), threshold)
            for each, threshold in zip(classifiers, least, strict=True)
        ]

    def measure(self, model: ModelOptions, named: str | None) -> list[Run]:
        """Return a run for each template set."""
        from ..evaluation.evaluate import Run
        from ..evaluation.evaluate import evaluate as measure

        runs = []
        for one in self.encode(model, named):
            judged = self._applied.folder.apply(
                one.classifier, one.data.features, calibrated=self._applied.calibration is not None
            )
            manifest = replace(one.manifest, options=one.manifest.options | judged.stated)
            measured = measure(one.data, judged.classifier, self._source.dataset.keys, judged.logits)
            runs.append(Run(measured, manifest, one.threshold))
        return runs


def _write_result(
    runs: Sequence[Run], dataset: Dataset, n_issues: int, form: ReportFormat, output: Path | None
) -> None:
    """Write one run, or several of which the best comes first."""
    from ..evaluation.compare import compare_precisions, pair
    from ..evaluation.label_issues import find_label_issues
    from ..output.destination import open_output
    from ..output.render import evaluation as render_eval

    best, colour = runs[0], output is None and sys.stdout.isatty()
    if len(runs) > 1:
        p_values = [
            pair(best.result.right, run.result.right).p if run.result.data.paths == best.result.data.paths else None
            for run in runs
        ]
        changes = compare_precisions(runs)
        if form is ReportFormat.JSON:
            written = render_eval.encode(render_eval.grid_to_document(runs, dataset, p_values, changes))
        else:
            shown = render_eval.grid_to_table(runs, p_values, changes, colour=colour)
            written = shown.encode("utf-8", "backslashreplace")
    else:
        issues = find_label_issues(best.result, [label.label for label in best.result.per_label], n_issues)
        if n_issues and not issues:
            console.say("zeroshot: --label-issues: no label looks wrong: no other answer is sure enough")
        if form is ReportFormat.JSON:
            written = render_eval.encode(render_eval.to_document(best, dataset, issues))
        else:
            written = render_eval.to_table(best, issues, colour=colour).encode("utf-8", "backslashreplace")
    with open_output(output) as stream:
        stream.write(written)


def _write_report(
    run: Run, source: labelled_image_options.LabelledImages, pipeline: Pipeline, target: Path, n_issues: int
) -> None:
    from ..output.destination import open_output
    from ..output.report import eval_report

    with console.Bar("thumbnails") as bar, open_output(target) as stream:
        page = eval_report(run, pipeline, n_issues=n_issues, files=source.files, on_progress=bar.advance)
        stream.write(page)


def _value(run: Run, name: str) -> float:
    return float(getattr(run.result.metrics, name).value)


def _read_template_sets(
    prompts: list[str] | None, template: list[str] | None, learned: LearnedFile | None
) -> list[TemplateSet]:
    if prompts and len(set(prompts)) < len(prompts):
        raise UsageError("a set is given twice with --prompts", "name each once")
    if prompts:
        from ..prompts.template_sets import check_names_differ

        sets = [read_templates(name, template) for name in prompts]
        check_names_differ(sets, prompts)
        return sets
    return [read_templates(None, template, learned)]
