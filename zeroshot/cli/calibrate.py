"""``zeroshot calibrate``: labelled images in, a temperature and a threshold out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..enums import ReportFormat
from ..errors import ExitCode, UsageError
from . import console, groups, labelled, options
from .inputs import prepare_classifier, read_templates


@console.reports_errors
@groups.expand_option_groups
def calibrate(
    folder: labelled.Folder = None,
    targets: labelled.Targets = None,
    label_names: labelled.LabelNames = None,
    all_labels: labelled.AllLabels = False,
    split: labelled.Split = labelled.SPLIT,
    target_precision: Annotated[
        float | None,
        typer.Option(
            "--target-precision",
            help="Also fit the threshold at which this share of the answers is right, such as 0.95.",
            metavar="P",
        ),
    ] = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    model: options.Model = None,
    pretrained: options.Pretrained = None,
    score: options.ScoreOption = None,
    seed: labelled.Seed = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The calibration file.", metavar="FILE"), options.Use.WRITTEN
    ] = Path("calibration.json"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Write it even if it makes the error worse or misses the precision asked for."),
    ] = False,
    format_: labelled.ReportFormatOption = None,
    *,
    images: groups.ImageOptions,
    running: groups.EngineOptions,
    preprocess_overrides: groups.WeightsFileOptions,
) -> ExitCode:
    """Calibrate probabilities (temperature scaling), and find the threshold for a wanted precision.

    Fits on one half of the images, reports on the other, and writes a file for `classify --calibration`. It is
    valid for the same model, prompts and labels only.
    """
    if target_precision is not None and not 0 < target_precision <= 1:
        raise UsageError(f"--target-precision {target_precision}: expected a share above 0, at most 1", "0.95, say")
    template_set = read_templates(prompts, template)
    form = options.choose_report_format(format_, None)

    from ..classifier import build_manifest
    from ..evaluation import calibration_file
    from ..evaluation.calibrate import calibrate as fit_both
    from ..evaluation.holdout import halve
    from ..output.destination import check_apart, check_output, open_output
    from ..output.render import calibration as render_calibrate
    from ..output.render.evaluation import encode

    with labelled.open_source(folder, targets, label_names, all_labels, split) as source:
        dataset = source.dataset
        if source.templates and not prompts and not template:
            template_set = source.templates
        check_apart({"--output": output}, source.files_read)
        check_output(output)
        pipeline = images.pipeline(as_stored=source.public)
        encoder = running.load(model, pretrained, preprocess_overrides)
        classifier = prepare_classifier(encoder, dataset.labels, template_set, score, pipeline.cache)
        data = labelled.encode(encoder, source, pipeline)
        fit = fit_both(*halve(data, seed), classifier, dataset.keys, target_precision)
        choices = images.choices(pipeline) | {"data": folder or targets, "seed": seed}
        manifest = build_manifest(encoder.spec, classifier, choices)
        document = calibration_file.to_document(fit, calibration_file.identify(encoder.spec, classifier), manifest)
        refused = bool(fit.problems) and not force
        if not refused:
            with open_output(output) as stream:
                stream.write(encode(document))
        if form is ReportFormat.JSON:  # which has no place for them
            for problem in fit.problems:
                console.say(f"zeroshot: {problem}{f'; {output} is not written without --force' if refused else ''}")
        with open_output(None) as stream:
            text = render_calibrate.to_text(fit, None if refused else str(output))
            stream.write(encode(document) if form is ReportFormat.JSON else text.encode("utf-8", "backslashreplace"))
        if refused:
            return ExitCode.ERROR
        return ExitCode.INCOMPLETE if data.failures else ExitCode.OK
