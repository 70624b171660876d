"""Choose how strongly the weights are drawn to the texts: by folds, on the log-loss of images that were left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from .folds import group_copies, split_folds
from .lbfgs import Doubles
from .regression import Indices, Problem, fit

STRENGTHS = (np.inf, 64.0, 16.0, 4.0, 1.0, 0.25)
"""What is tried, the strongest pull to the texts first: each solution is the start for the next. Infinity is the texts
alone, so that examples which do not help can be refused."""

ONE_EXAMPLE = 1.0
"""With one example a label nothing can be left out to choose by."""

FOLDS = 5

_ENOUGH = 1e-4
"""Nats an image within which a fold's loss is known when strengths are compared."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights that were learned, and what chose them.

    Attributes:
        weights: Shape ``(n_labels, dim)``, float32; not of unit length.
        strength: Of the pull to the anchor; infinity where the texts alone were best.
        losses: Each strength that was tried, with the mean log-loss of the images left out, in nats; empty where
            none could be left out.
        logits: Of every image by the folds that did not see it, shape ``(n_images, n_labels)``; None likewise.
        groups: For each image the first that it is a copy of, shape ``(n_images,)``.
    """

    weights: Features
    strength: float
    losses: tuple[tuple[float, float], ...]
    logits: npt.NDArray[np.float32] | None
    groups: Indices


def learn(
    problem: Problem,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Learned:
    """Learn weights from examples, with the strength that folds choose.

    Args:
        problem: Examples and anchor.
        seed: Decides the folds.
        strengths: What to try, strongest first.
        on_progress: Called with the number of fits finished since the last call; there are `count_fits`.
    """
    groups = group_copies(np.asarray(problem.features, dtype=np.float32))
    n_folds = count_folds(problem.targets, groups)
    if n_folds < 2:
        weights = fit(problem, ONE_EXAMPLE)
        return Learned(weights.astype(np.float32), ONE_EXAMPLE, (), None, groups)
    folds = split_folds(problem.targets, groups, n_folds, seed)
    losses = np.zeros((len(strengths), len(problem.targets)))
    logits = np.zeros((len(strengths), len(problem.targets), len(problem.anchor)), dtype=np.float32)
    for fold in range(n_folds):
        held_out = np.flatnonzero(folds == fold)
        seen = problem.subset(np.flatnonzero(folds != fold))
        weights = np.asarray(problem.anchor, dtype=np.float64)
        for place, strength in enumerate(strengths):
            weights = fit(seen, strength, weights, _ENOUGH * len(seen.targets), np.float32)
            logits[place, held_out] = problem.scale * problem.features[held_out] @ weights.T
            losses[place, held_out] = log_losses(logits[place, held_out], problem.targets[held_out])
            on_progress(1)
    means = losses.mean(axis=1)
    # The first of equal ones: the stronger pull.
    best = int(means.argmin())
    start = weights if best == len(strengths) - 1 else None
    final = fit(problem, strengths[best], start)
    on_progress(1)
    tried = tuple((strength, float(loss)) for strength, loss in zip(strengths, means, strict=True))
    return Learned(final.astype(np.float32), strengths[best], tried, logits[best], groups)


def count_fits(targets: Indices, strengths: tuple[float, ...] = STRENGTHS) -> int:
    """Return how many fits `learn` makes at most, for a progress bar."""
    return FOLDS * len(strengths) + 1 if len(targets) else 1


def count_folds(targets: Indices, groups: Indices) -> int:
    """Return how many folds there can be: as many as the label with most images has different ones, at most `FOLDS`."""
    pairs = np.unique(np.stack([targets, groups]), axis=1)
    return min(FOLDS, int(np.bincount(pairs[0]).max())) if len(targets) else 0


def log_losses(logits: npt.NDArray[np.floating], targets: Indices) -> Doubles:
    """Return minus the log of the softmax of each image's target, in nats, shape ``(n_images,)``."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    own = np.take_along_axis(shifted, targets[:, None], axis=1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - own, dtype=np.float64)
