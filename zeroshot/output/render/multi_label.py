"""Several labels per image, measured or fitted, as a table for users or a versioned document for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from unicodedata import normalize

import numpy as np

from ...evaluation.multi_label import MultiLabelFit, MultiLabelResult
from ...evaluation.multi_label_file import summarise
from ...messages import printable
from ...results import Manifest, significant
from .evaluation import encode, percent, with_interval

MULTI_LABEL_EVAL_FORMAT, VERSION = "zeroshot-multi-label-eval", 1

_SHOWN = 40
_NUMBERS = {
    "mean_average_precision": "mean average precision",
    "micro_f1": "F1 of all pairs",
    "macro_f1": "mean F1 of the labels",
    "exact": "images all right",
    "ece": "calibration error",
    "nll": "log-loss of a pair",
}


def to_document(result: MultiLabelResult, manifest: Manifest) -> bytes:
    """Return a result as JSON: metrics, labels, predictions, failures, manifest."""
    names = [label.label for label in result.per_label]
    return encode(
        {
            "format": MULTI_LABEL_EVAL_FORMAT,
            "version": VERSION,
            "manifest": asdict(manifest),
            "metrics": summarise(result),
            "images": {"measured": len(result.data.paths), "failed": len(result.data.failures)},
            "labels": [asdict(label) for label in result.per_label],
            "predictions": [
                {
                    "path": path,
                    "targets": [names[index] for index in np.flatnonzero(result.truth[row])],
                    "labels": [names[index] for index in np.flatnonzero(row_of >= result.threshold)],
                    "probabilities": [significant(float(value)) for value in row_of],
                }
                for row, (path, row_of) in enumerate(zip(result.data.paths, result.probabilities, strict=True))
            ],
            "failures": [asdict(failure) for failure in result.data.failures],
        }
    )


def to_table(result: MultiLabelResult, manifest: Manifest) -> bytes:
    """Return a result as text."""
    lines = [
        f"model    {printable(str(manifest.model['model']))}",
        f"prompts  {printable(str(manifest.prompts['name']))}, {len(manifest.prompts['templates'])} templates",
        f"images {len(result.data.paths)}, labels {len(result.per_label)}, {int(result.truth.sum())} labels of images",
        "",
        *_numbers(result),
        "",
        *_labels(result),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _numbers(result: MultiLabelResult) -> Iterator[str]:
    numbers = summarise(result)
    for name, words in _NUMBERS.items():
        shown = f"{numbers[name]:.3f}" if name in ("ece", "nll") else percent(numbers[name])
        at = f"   from a probability of {result.threshold:.3g} on" if name == "micro_f1" else ""
        yield f"{words:<24}{shown:>7}{at}"
    yield f"of the labels given, {with_interval(result.precision)} are right"
    yield f"of the images' labels, {with_interval(result.recall)} are given"


def _labels(result: MultiLabelResult) -> Iterator[str]:
    """Yield each label's results, the worst average precision first."""
    labels = sorted(
        (label for label in result.per_label if label.images), key=lambda one: (one.average_precision or 0.0, one.label)
    )
    alike = Counter(normalize("NFC", one.label) for one in labels)
    names = [printable(one.label) if alike[normalize("NFC", one.label)] == 1 else ascii(one.label) for one in labels]
    width = max(len("label"), *(min(24, len(name)) for name in names))
    yield f"{'label':<{width}}  images  given     AP  precision  recall     F1"
    for one, name in zip(labels[:_SHOWN], names, strict=False):
        short = name if len(name) <= width else name[: width - 1] + "…"
        yield (
            f"{short:<{width}}  {one.images:>6}  {one.given:>5}  {percent(one.average_precision):>5}"
            f"  {percent(one.precision):>9}  {percent(one.recall):>6}  {percent(one.f1):>5}"
        )
    if len(labels) > _SHOWN:
        yield f"... and {len(labels) - _SHOWN} labels with higher average precision (--format json has all)"


def fit_to_text(fit: MultiLabelFit, target: str | None) -> str:
    """Return what was fitted, and what it does on the held-out half.

    Args:
        fit: Slope, offset and threshold.
        target: The file that holds them; None where it was not written.
    """
    return "\n".join(_fit_lines(fit, target)) + "\n"


def _fit_lines(fit: MultiLabelFit, target: str | None) -> Iterator[str]:
    if fit.problems:
        yield from fit.problems
        yield ""
    yield f"slope {fit.judge.slope:.4g}, offset {fit.judge.offset:.4g}"
    if fit.threshold is not None:
        aim = "the highest F1" if fit.wanted is None else f"{percent(fit.wanted)} precision"
        yield f"threshold {fit.threshold:.4g} for {aim}"
    yield ""
    yield f"fitted on {fit.fitted_on} images; on the {len(fit.after.data.paths)} held out:"
    yield "                          before    after"
    before, after = summarise(fit.before), summarise(fit.after)
    for name, words in _NUMBERS.items():
        shown = [f"{one[name]:.4f}" if name in ("ece", "nll") else percent(one[name]) for one in (before, after)]
        yield f"{words:<24}{shown[0]:>8} {shown[1]:>8}"
    yield f"of the labels given, {with_interval(fit.after.precision)} are right"
    yield f"of the images' labels, {with_interval(fit.after.recall)} are given"
    yield ""
    if target is None:
        yield "not written; --force writes it all the same"
    else:
        yield f"zeroshot classify ... --multi-label --calibration {printable(target)}"
