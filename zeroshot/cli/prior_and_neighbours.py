"""Applies ``--prior`` and ``--neighbours``: the share of each label in this folder, and images that look alike.

They are applied to the classifier's probabilities in this order, and said on stderr or in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..messages import and_more
from . import console, options

if TYPE_CHECKING:
    from ..encoder import Features
    from ..features.pipeline import Block
    from ..prompts.labels import LabelSet
    from ..result_columns import Answers
    from ..scoring import Classifier, Decision, Floats
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
Neighbours = Annotated[
    bool,
    typer.Option(
        "--neighbours",
        help="Mix each image's probabilities with those of the images most like it, which takes a first pass. It makes "
        "labels with few images worse: measure it with `eval` before you rely on it.",
        rich_help_panel=options.Panel.LABELS,
    ),
]

AUTO = "auto"
_SHOWN, _LEAST_SHOWN = 10, 0.001


@dataclass(frozen=True, slots=True)
class Judged:
    """A classifier with what all images of a run say.

    Attributes:
        classifier: With its shares.
        logits: Of all images that could be read, shape ``(n_images, n_labels)``, where they are mixed with those of
            neighbours; None where they are the classifier's.
        stated: What a manifest says of it.
    """

    classifier: Classifier
    logits: Floats | None = None
    stated: dict[str, Any] = field(default_factory=dict)

    def answers(self, blocks: Iterable[Block], decision: Decision) -> Iterator[Answers]:
        """Yield the answers for images, which come in the order of the logits."""
        start = 0
        for block in blocks:
            end = start + len(block.features)
            given = None if self.logits is None else self.logits[start:end]
            yield self.classifier.answer(block, decision, given)
            start = end


@dataclass(frozen=True, slots=True)
class FolderStatistics:
    """What of all images of a run is applied to each."""

    prior: Prior = None
    neighbours: Neighbours = False

    @property
    def looks_first(self) -> bool:
        """Whether all images have to be encoded before the first answer."""
        return self.prior == AUTO or self.neighbours

    def check(self, inputs: InputOptions, *, resume: bool) -> None:
        """Refuse what cannot be done where the images cannot be looked at as a whole first.

        Raises:
            UsageError: They come from stdin, or were looked at in part by an earlier run.
        """
        if not self.looks_first:
            return
        first = f"{'--neighbours' if self.neighbours else '--prior auto'} looks at all images first"
        if "-" in (inputs.paths or []) or inputs.files_from == "-":
            raise UsageError(f"{first}, and stdin can be read once", "name files or folders")
        if resume:
            raise UsageError(f"{first}, and --resume only at those that are left", "leave out --resume")

    def load_prior(self, labels: LabelSet) -> Any:
        """Read known shares before a model is loaded; None where there are none to read."""
        if self.prior in (None, AUTO):
            return None
        from ..learn.label_shares import load_shares

        return load_shares(str(self.prior), labels.names)

    def apply(self, classifier: Classifier, features: Features | None, *, calibrated: bool) -> Judged:
        """Apply shares, then neighbours.

        Args:
            classifier: With its calibration, if there is one.
            features: Of all images, shape ``(n_images, dim)``; needed where `looks_first`.
            calibrated: Whether its probabilities were calibrated.
        """
        classifier, stated = self._apply_prior(classifier, features, calibrated=calibrated)
        if calibrated and self.prior:
            console.warn(
                "--prior changes the probabilities that the calibration was fitted on: what it says of precision does"
                " not hold (`zeroshot eval` with both measures it)"
            )
        if not self.neighbours or features is None:
            return Judged(classifier, None, stated)
        from ..learn.label_propagation import NEAREST, SHARE, propagate

        if len(features) < NEAREST * len(classifier.weights):
            console.warn(
                f"--neighbours with fewer than {NEAREST} images per label: most neighbours are of other labels, which"
                " makes it worse (measure with `zeroshot eval --neighbours`)"
            )
        if calibrated:
            console.warn(
                "--neighbours changes the probabilities that the calibration was fitted on: what it says of precision"
                " does not hold (`zeroshot eval` with both measures it)"
            )
        with console.doing(f"comparing {len(features)} images with each other"):
            logits = propagate(classifier, features)
        neighbours = {"nearest": NEAREST, "share": SHARE, "images": len(features)}
        return Judged(classifier, logits, stated | {"neighbours": neighbours})

    def _apply_prior(
        self, classifier: Classifier, features: Features | None, *, calibrated: bool
    ) -> tuple[Classifier, dict[str, Any]]:
        """Estimate or read the shares, print and apply them."""
        if self.prior is None:
            return classifier, {}
        from ..learn.label_shares import estimate_from, with_shares

        known = self.load_prior(classifier.labels)
        if known is None:
            if not calibrated:
                console.warn(
                    "--prior auto relies on the probabilities, which are not calibrated: where the model is often"
                    " wrong, it makes that worse (`zeroshot calibrate` first; `zeroshot eval` with and without tells)"
                )
            if features is None or not len(features):
                return classifier, {}
            known = estimate_from(classifier, features)
        names = classifier.labels.names
        order = sorted(range(len(names)), key=lambda index: (-known.values[index], index))
        shown = [index for index in order if known.values[index] >= _LEAST_SHOWN][:_SHOWN]
        rest = len(names) - len(shown)
        listed = ", ".join(f"{names[index]} {100 * known.values[index]:.1f}%" for index in shown)
        console.say(f"zeroshot: shares of the labels: {listed}" + (f", {and_more(rest)}" if rest else ""))
        return with_shares(classifier, known.values), {"prior": known.manifest(names)}


def stack(blocks: Iterable[Block]) -> Features | None:
    """Return the features of what could be read, shape ``(n_images, dim)``; None where nothing could."""
    import numpy as np

    rows = [block.features for block in blocks if len(block.features)]
    return np.concatenate(rows) if rows else None
