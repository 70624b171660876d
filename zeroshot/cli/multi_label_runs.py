"""Runs `classify`, `eval` and `calibrate` with ``--multi-label``: an image may have several labels, or none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..enums import ReportFormat
from ..errors import ExitCode, UsageError
from . import console, labelled_image_options, options
from .fitted_output import write_fitted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..encoder import Encoder, EncoderSpec
    from ..evaluation.evaluate import EncodedDataset
    from ..evaluation.labelled_folders import Dataset
    from ..evaluation.multi_label_file import MultiLabelCalibration
    from ..features.cache import FeatureCache
    from ..multi_label import Judge
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet
    from ..results import Manifest
    from .model_options import ModelOptions
    from .pipeline_options import ImageOptions

MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label",
        help="An image may have several labels, or none: each is judged on its own, against everyday words "
        "and background labels. `calibrate --multi-label` fits probabilities and threshold.",
        rich_help_panel=options.Panel.LABELS,
    ),
]


def check_multi_label(**others: object) -> None:
    """Refuse options for labels that compete.

    Args:
        others: By the option's name, ``_`` for ``-``; those that were given are true.

    Raises:
        UsageError: Names the first that was given.
    """
    if given := next((name for name, value in others.items() if value), None):
        option = f"--{given.replace('_', '-')}"
        raise UsageError(
            f"--multi-label judges each label on its own; {option} is for labels that compete", "leave out one"
        )


def prepare_judge(encoder: Encoder, labels: LabelSet, templates: TemplateSet, cache: FeatureCache | None) -> Judge:
    """Build the judge and tell what a user should know of its labels."""
    from ..multi_label import build_judge

    with console.doing(f"encoding the prompts of {len(labels.labels)} labels"):
        judge = build_judge(encoder, labels, templates, cache)
    for warning in judge.rows.warnings:
        console.warn(warning)
    return judge


def apply_calibration(
    judge: Judge, spec: EncoderSpec, calibration: Path | None, threshold: float | None
) -> tuple[Judge, float, dict[str, Any]]:
    """Apply a calibration file, if there is one.

    Returns:
        The judge, the threshold to use (the one given, else the fitted one, else a half), and what a manifest says.
    """
    from ..evaluation.multi_label import DEFAULT_THRESHOLD
    from ..evaluation.multi_label_file import load_multi_label_calibration

    fitted: MultiLabelCalibration | None = None
    if calibration is not None:
        fitted = load_multi_label_calibration(calibration, spec, judge)
        judge = fitted.apply(judge)
    else:
        console.warn(
            "--multi-label is not calibrated: which labels reach a half says little"
            " (`zeroshot calibrate --multi-label` on labelled images fits that)"
        )
    least = threshold if threshold is not None else fitted.threshold if fitted else None
    stated: dict[str, Any] = {"multi_label": judge.manifest()}
    stated |= {"calibration": fitted.manifest()} if fitted else {}
    return judge, DEFAULT_THRESHOLD if least is None else least, stated


def manifest_of(spec: EncoderSpec, judge: Judge, labels: LabelSet, chosen: dict[str, Any]) -> Manifest:
    """Return the manifest of a judge, with the background labels that it has among its labels."""
    from ..classifier import build_manifest

    return build_manifest(spec, replace(judge.classifier, labels=labels), chosen)


def _encode(
    source: labelled_image_options.LabelledImages, model: ModelOptions, images: ImageOptions, templates: TemplateSet
) -> tuple[Encoder, Judge, EncodedDataset, npt.NDArray[np.bool_], dict[str, Any]]:
    """Return the encoder, the judge, the images, which labels each has, and what a manifest says of the way there."""
    dataset = source.dataset
    pipeline = images.pipeline(as_stored=source.public)
    encoder = model.load_for(source.stored)
    judge = prepare_judge(encoder, dataset.labels, templates, pipeline.cache)
    data = labelled_image_options.encode(encoder, source, pipeline)
    return encoder, judge, data, truth_of(dataset, data), images.choices(pipeline)


def truth_of(dataset: Dataset, data: EncodedDataset) -> npt.NDArray[np.bool_]:
    """Return which labels each image that could be read has, shape ``(n_images, n_labels)``."""
    import numpy as np

    truth = np.zeros((len(data.paths), len(dataset.keys)), dtype=bool)
    for row, targets in enumerate(dataset.several[int(place)] for place in data.targets):
        truth[row, list(targets)] = True
    return truth


def evaluate_several(
    source: labelled_image_options.LabelledImages,
    model: ModelOptions,
    images: ImageOptions,
    templates: TemplateSet,
    calibration: Path | None,
    form: ReportFormat,
    output: Path | None,
    named: str | None,
) -> ExitCode:
    """Measure labels that are judged on their own, and print it."""
    from ..evaluation.multi_label import measure
    from ..output.destination import open_output
    from ..output.render import multi_label as render

    encoder, judge, data, truth, choices = _encode(source, model, images, templates)
    judge, least, stated = apply_calibration(judge, encoder.spec, calibration, None)
    result = measure(data, judge, truth, source.dataset.keys, least)
    chosen = {"threshold": least, "data": named} | choices | stated
    manifest = manifest_of(encoder.spec, judge, source.dataset.labels, chosen)
    with open_output(output) as stream:
        written = (
            render.to_document(result, manifest) if form is ReportFormat.JSON else render.to_table(result, manifest)
        )
        stream.write(written)
    return ExitCode.INCOMPLETE if data.failures else ExitCode.OK


def calibrate_several(
    source: labelled_image_options.LabelledImages,
    model: ModelOptions,
    images: ImageOptions,
    templates: TemplateSet,
    wanted: float | None,
    seed: int,
    written: tuple[Path, ReportFormat | None, bool],
    named: str | None,
) -> ExitCode:
    """Fit probabilities and a threshold of labels that are judged on their own, and write and print that.

    Args:
        source: Labelled images.
        model: Which model.
        images: How images are opened.
        templates: What labels are put into.
        wanted: The precision asked for.
        seed: Decides the halves.
        written: The file, the format to print in, and whether to write what is no better.
        named: The folder or table, as it was given.
    """
    from ..evaluation.holdout import split_rows
    from ..evaluation.multi_label import calibrate
    from ..evaluation.multi_label_file import identify_judge, to_document
    from ..output.render.multi_label import fit_to_text

    encoder, judge, data, truth, choices = _encode(source, model, images, templates)
    halves = split_rows(truth.argmax(axis=1), seed)
    fit = calibrate(data, halves, judge, truth, source.dataset.keys, wanted)
    chosen = choices | {"data": named, "seed": seed, "multi_label": judge.manifest()}
    manifest = manifest_of(encoder.spec, judge, source.dataset.labels, chosen)
    document = to_document(fit, identify_judge(encoder.spec, judge), manifest)
    output, form, force = written
    if not write_fitted(document, fit.problems, partial(fit_to_text, fit), output, form, force=force):
        return ExitCode.ERROR
    return ExitCode.INCOMPLETE if data.failures else ExitCode.OK
