"""``--prior``: the share of each label among the images, known or estimated, printed and applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import console, options

if TYPE_CHECKING:
    from ..encoder import Features
    from ..features.pipeline import Block
    from ..prompts.labels import LabelSet
    from ..scoring import Classifier
    from .input_options import InputOptions

Prior = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Shares of the labels among these images: a YAML file of known ones, or `auto`, which estimates them in a "
        "first pass. `auto` makes a poor classifier worse: measure it with `eval` before you rely on it.",
        metavar="auto|FILE",
        rich_help_panel=options.Panel.LABELS,
    ),
    options.Use.READ,
]

AUTO = "auto"
_SHOWN, _LEAST_SHOWN = 10, 0.001


def check_prior(prior: str | None, inputs: InputOptions | None = None, *, resume: bool = False) -> None:
    """Refuse an estimate where the images cannot be looked at as a whole first.

    Raises:
        UsageError: They come from stdin, or were looked at in part by an earlier run.
    """
    if prior != AUTO:
        return
    if inputs and ("-" in (inputs.paths or []) or inputs.files_from == "-"):
        raise UsageError("--prior auto looks at all images first, and stdin can be read once", "name files or folders")
    if resume:
        raise UsageError(
            "--prior auto looks at all images first, and --resume only at those that are left", "leave out --resume"
        )


def load_prior(prior: str | None, labels: LabelSet) -> Any:
    """Read known shares before a model is loaded; None where there are none to read."""
    if prior in (None, AUTO):
        return None
    from ..evaluation.priors import load_shares

    return load_shares(str(prior), labels.names)


def apply_prior(
    classifier: Classifier, prior: str | None, features: Features | None, *, calibrated: bool
) -> tuple[Classifier, dict[str, Any]]:
    """Estimate or read the shares, print and apply them.

    Args:
        classifier: With its calibration, if there is one.
        prior: ``auto``, a file, or None.
        features: Of all images, shape ``(n_images, dim)``; needed for ``auto``.
        calibrated: Whether its probabilities were calibrated.

    Returns:
        The classifier, and what a manifest says of it.
    """
    if prior is None:
        return classifier, {}
    from ..evaluation.priors import estimate_from, with_shares

    known = load_prior(prior, classifier.labels)
    if known is None:
        if not calibrated:
            console.warn(
                "--prior auto relies on the probabilities, which are not calibrated: where the model is often wrong,"
                " it makes that worse (`zeroshot calibrate` first, or measure with `zeroshot eval --prior auto`)"
            )
        if features is None or not len(features):
            return classifier, {}
        known = estimate_from(classifier, features)
    names = classifier.labels.names
    order = sorted(range(len(names)), key=lambda index: (-known.values[index], index))
    shown = [index for index in order if known.values[index] >= _LEAST_SHOWN][:_SHOWN]
    rest = len(names) - len(shown)
    listed = ", ".join(f"{names[index]} {100 * known.values[index]:.1f}%" for index in shown)
    console.say(f"zeroshot: shares of the labels: {listed}" + (f", and {rest} others" if rest else ""))
    return with_shares(classifier, known.values), {"prior": known.manifest(names)}


def stack(blocks: Iterable[Block]) -> Features | None:
    """Return the features of what could be read, shape ``(n_images, dim)``; None where nothing could."""
    import numpy as np

    rows = [block.features for block in blocks if len(block.features)]
    return np.concatenate(rows) if rows else None
