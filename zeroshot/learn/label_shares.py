"""How large a share of some images each label has, and what that does to probabilities.

Estimated by expectation maximisation on the probabilities themselves: Saerens, Latinne and Decaestecker, "Adjusting the
Outputs of a Classifier to New a Priori Probabilities" (2002). A zero-shot classifier is taken to expect every label
equally often. It holds where probabilities are calibrated; where they are systematically wrong, it makes the mistake
larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..enums import Score
from ..errors import LabelError, UsageError, nearest
from ..prompts.labels import normalise
from ..prompts.yaml_files import parse_yaml, read_text
from ..scoring import Classifier
from .lbfgs import Doubles

AUTO = "auto"
"""Where a file of shares may be named: estimate them from the images."""

LEAST_SHARE = 1e-6
"""What a label is left with that has no share: its logit stays a number."""

_MOST_ROUNDS, _ENOUGH = 1000, 1e-6
_MOST_CELLS = 50_000_000
"""Probabilities that are held at a time; of more, evenly spaced images are looked at."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of each label.

    Attributes:
        source: ``auto``, or the file.
        values: In label order, in [0, 1], sum 1; shape ``(n_labels,)``.
        images: How many images they were estimated from; 0 where they were given.
    """

    source: str
    values: Doubles
    images: int

    def manifest(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the shares as plain data for a manifest's options."""
        shares = [{"label": name, "share": float(share)} for name, share in zip(names, self.values, strict=True)]
        return {"source": self.source, "images": self.images, "shares": shares}


def estimate_shares(probabilities: npt.NDArray[np.floating]) -> Doubles:
    """Return the shares that make the probabilities most likely, shape ``(n_labels,)``, sum 1.

    Each round weights every image's probabilities by the shares over equal ones, normalises them, and takes the mean
    as the new shares. The likelihood never falls.

    Args:
        probabilities: Under equal shares, shape ``(n_images, n_labels)``.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    shares = np.full(given.shape[1], 1 / given.shape[1])
    for _ in range(_MOST_ROUNDS):
        # mean_i  p_ik s_k / sum_j p_ij s_j, without a second matrix of that size
        following = shares * (given.T @ (1 / np.maximum(given @ shares, 1e-300))) / len(given)
        moved = float(np.abs(following - shares).sum())
        shares = following
        if moved < _ENOUGH:
            break
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def estimate_from(classifier: Classifier, features: Features) -> Shares:
    """Estimate the shares of images.

    Args:
        classifier: Calibrated or not; without shares of its own.
        features: Unit rows, shape ``(n_images, dim)``.
    """
    step = max(1, -(-len(features) * len(classifier.weights) // _MOST_CELLS))
    looked_at = features[::step]
    return Shares(AUTO, estimate_shares(classifier.scores(looked_at).probabilities), len(looked_at))


def with_shares(classifier: Classifier, shares: npt.NDArray[np.floating]) -> Classifier:
    """Return the classifier with each label's logit raised by the logarithm of its share over an equal one.

    Raises:
        UsageError: Its probabilities are sigmoids, which no shares belong to.
    """
    if classifier.score is Score.SIGMOID:
        raise UsageError("--prior: sigmoid probabilities are not shares of a whole", "leave out --score sigmoid")
    shifts = np.log(np.maximum(shares, LEAST_SHARE) * len(classifier.weights))
    return replace(classifier, shifts=np.asarray(shifts, dtype=np.float32))


def load_shares(source: str, names: tuple[str, ...]) -> Shares:
    """Read known shares: YAML or JSON, ``cat: 0.7`` a line; counts will do, since they are divided by their sum.

    Args:
        source: The file.
        names: The labels, background among them; each needs a share, which may be 0.

    Raises:
        LabelError: A label is missing or unknown, or a share is no number from 0 on.
    """
    document = parse_yaml(read_text(Path(source), LabelError), source, LabelError)
    if not isinstance(document, Mapping):
        raise LabelError(f"{source}: expected a mapping from labels to shares", "write `cat: 0.7`, one per line")
    given: dict[str, float] = {}
    for key, value in document.items():
        try:
            share = float(value)
        except (TypeError, ValueError):
            share = -1.0
        if not 0 <= share < float("inf"):
            raise LabelError(f"{source}: {key}: {value!r} is not a share", "write a number from 0 on")
        if normalise(str(key)) in given:
            raise LabelError(f"{source}: {key!r} is given twice, in another spelling", "give each label one share")
        given[normalise(str(key))] = share
    wanted = [normalise(name) for name in names]
    if unknown := [str(key) for key in document if normalise(str(key)) not in wanted]:
        raise LabelError(f"{source}: no label {unknown[0]!r}{nearest(unknown[0], names)}", "remove it")
    if missing := [name for name, key in zip(names, wanted, strict=True) if key not in given]:
        raise LabelError(f"{source}: no share for {missing[0]!r}", "give every label one; 0 for none")
    values = np.asarray([given[key] for key in wanted])
    if values.max() > 0:
        values /= values.max()  # before they are summed: the sum of the largest numbers there are is none
    if not values.sum():
        raise LabelError(f"{source}: every share is 0", "give those that there are")
    return Shares(source, values / values.sum(), 0)
