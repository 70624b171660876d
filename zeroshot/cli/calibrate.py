"""``zeroshot calibrate``: labelled images in, a temperature and a threshold out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, UsageError
from . import console, labelled_image_options, option_groups, options
from .fitted_output import write_fitted
from .label_options import read_learned, read_templates
from .model_options import ModelOptions
from .multi_label_runs import MultiLabel, calibrate_several, check_multi_label
from .option_values import check_document
from .pipeline_options import ImageOptions
from .prepare_classifier import prepare_classifier

if TYPE_CHECKING:
    pass


@console.reports_errors
@option_groups.expand_option_groups
def calibrate(
    target_precision: Annotated[
        float | None,
        typer.Option(
            "--target-precision",
            help="Also fit the threshold at which this share of the answers is right, such as 0.95.",
            metavar="P",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    prompts: options.Prompts = None,
    template: options.Template = None,
    score: options.ScoreOption = None,
    learned: options.Learned = None,
    multi_label: MultiLabel = False,
    seed: labelled_image_options.Seed = 0,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The calibration file.", metavar="FILE", rich_help_panel=options.Panel.OUTPUT
        ),
        options.Use.WRITTEN,
    ] = Path("calibration.json"),
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write it even if it makes the error worse or does not reach the target precision.",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = False,
    format_: options.ReportFormatOption = None,
    *,
    data: labelled_image_options.LabelledOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Calibrate probabilities (temperature scaling), and find the threshold for a wanted precision.

    Fits on one half of the images, reports on the other, and writes a file for `classify --calibration`. It is
    valid for the same model, prompts and labels only. With --multi-label: a slope and an offset instead of a
    temperature, and unless a precision is asked for the threshold with the highest F1.
    """
    check_document(output)
    if multi_label:
        check_multi_label(score=score, learned=learned)
    if target_precision is not None and not 0 < target_precision <= 1:
        raise UsageError(f"--target-precision {target_precision}: expected a number above 0, at most 1", "0.95, say")
    weights = read_learned(learned)
    template_set = read_templates(prompts, template, weights)

    from ..classifier import build_manifest
    from ..evaluation import calibration_file
    from ..evaluation.calibrate import calibrate as fit_both
    from ..evaluation.fitted_identity import identify
    from ..evaluation.holdout import halve
    from ..output.render.calibration import to_text

    with data.open(several=multi_label) as source:
        source = labelled_image_options.with_learned_labels(source, weights)
        dataset = source.dataset
        if source.templates and not prompts and not template and not weights:
            template_set = source.templates
        source.check_apart(output=output)
        if multi_label:
            written = (output, format_, force)
            return calibrate_several(source, model, images, template_set, target_precision, seed, written, data.named)
        pipeline = images.pipeline(as_stored=source.public)
        encoder = model.load_for(source.stored, weights)
        classifier = prepare_classifier(encoder, dataset.labels, template_set, score, pipeline.cache, weights)
        encoded = labelled_image_options.encode(encoder, source, pipeline)
        labelled_image_options.warn_of_examples(encoded, weights)
        fit = fit_both(*halve(encoded, seed), classifier, dataset.keys, target_precision)
        choices = images.choices(pipeline) | {"data": data.named, "seed": seed}
        choices |= {"learned": weights.manifest()} if weights else {}
        manifest = build_manifest(encoder.spec, classifier, choices)
        document = calibration_file.to_document(fit, identify(encoder.spec, classifier), manifest)
        text = partial(to_text, fit, learned=weights.source if weights else None)
        if not write_fitted(document, fit.problems, text, output, format_, force=force, remarks=fit.remarks):
            return ExitCode.ERROR
        return ExitCode.INCOMPLETE if encoded.failures else ExitCode.OK
