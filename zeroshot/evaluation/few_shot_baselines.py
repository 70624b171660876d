"""Few-shot baselines that `learn` is compared with: Tip-Adapter, the closed-form Gaussian, and a linear probe.

Each takes examples and texts and gives logits for other images; none sees a validation set. Where a number has to be
chosen, the same folds choose it that choose the strength of `learn`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..learn.folds import group_copies, split_folds
from ..learn.regression import Problem
from ..learn.strength import STRENGTHS, count_folds, learn, log_losses

Floats = npt.NDArray[np.floating]

TIP_ALPHA, TIP_BETA = 1.0, 5.5
"""The defaults of Tip-Adapter's paper."""

GAUSSIAN_WEIGHTS = tuple(10.0**power for power in range(-4, 5))
"""What the Gaussian classifier is multiplied by before it is added to the texts, to choose from."""


def tip_adapter(problem: Problem, images: Floats) -> Floats:
    """Return the logits of Tip-Adapter without fine-tuning (Zhang et al., arXiv 2111.03930), with its defaults.

    The texts' logits, plus for every example of a label ``alpha * exp(-beta * (1 - cosine))``.

    Args:
        problem: Examples and texts.
        images: Unit rows, shape ``(n_images, dim)``.
    """
    known = np.eye(len(problem.anchor))[problem.targets]
    cached = np.exp(-TIP_BETA * (1 - images @ problem.features.T)) @ known
    return np.asarray(problem.scale * images @ problem.anchor.T + TIP_ALPHA * cached)


def gaussian(problem: Problem, images: Floats) -> Floats:
    """Return the logits of the closed-form Gaussian classifier added to the texts' (Wang et al., arXiv 2402.04087).

    Every label is a Gaussian around the mean of its examples, all with one covariance, whose inverse is estimated by
    the ridge-type formula of Kubokawa and Srivastava (2008): ``d ((n - 1) S + tr(S) I)^-1``.

    Args:
        problem: Examples and texts.
        images: Unit rows, shape ``(n_images, dim)``.
    """

    def both(seen: Problem, rows: Floats) -> tuple[Floats, Floats]:
        return seen.scale * rows @ seen.anchor.T, _gaussian_logits(seen, rows)

    weight = _choose_weight(problem, both)
    texts, shapes = both(problem, images)
    return np.asarray(texts + weight * shapes)


def _gaussian_logits(problem: Problem, images: Floats) -> Floats:
    dim = problem.features.shape[1]
    counts = np.bincount(problem.targets, minlength=len(problem.anchor))
    present = np.flatnonzero(counts)
    features = problem.features.astype(np.float64)
    means = np.stack([features[problem.targets == label].mean(axis=0) for label in present])
    centred = features - means[np.searchsorted(present, problem.targets)]
    scatter = centred.T @ centred  # (n - 1) S
    trace = float(np.trace(scatter)) / max(len(features) - 1, 1)
    # One example per label leaves no spread: a sphere then.
    inverse = dim * np.linalg.inv(scatter + trace * np.eye(dim)) if trace > 1e-12 else np.eye(dim)
    rows = means @ inverse
    logits = images @ rows.T - 0.5 * (rows * means).sum(axis=1)
    every = np.repeat(logits.mean(axis=1, keepdims=True), len(counts), axis=1)
    every[:, present] = logits  # a label without examples is as likely as the mean of the others
    return np.asarray(every)


def _choose_weight(problem: Problem, both: Callable[[Problem, Floats], tuple[Floats, Floats]]) -> float:
    """Return the weight of the second logits with the lowest log-loss by folds; 1 where there can be none."""
    groups = group_copies(np.asarray(problem.features, dtype=np.float32))
    n_folds = count_folds(problem.targets, groups)
    if n_folds < 2:
        return 1.0
    folds = split_folds(problem.targets, groups, n_folds, 0)
    losses = np.zeros(len(GAUSSIAN_WEIGHTS))
    for fold in range(n_folds):
        held_out = np.flatnonzero(folds == fold)
        texts, shapes = both(problem.subset(np.flatnonzero(folds != fold)), problem.features[held_out])
        for place, weight in enumerate(GAUSSIAN_WEIGHTS):
            losses[place] += log_losses(texts + weight * shapes, problem.targets[held_out]).sum()
    return GAUSSIAN_WEIGHTS[int(losses.argmin())]


def linear_probe(problem: Problem, images: Floats) -> Floats:
    """Return the logits of the same regression without texts: drawn to zero, with a strength by folds.

    Args:
        problem: Examples; its texts are not used.
        images: Unit rows, shape ``(n_images, dim)``.
    """
    bare = Problem(problem.features, problem.targets, np.zeros_like(problem.anchor), problem.scale)
    learned = learn(bare, strengths=tuple(strength for strength in STRENGTHS if np.isfinite(strength)))
    return np.asarray(problem.scale * images @ learned.weights.T)


def anchored(problem: Problem, images: Floats) -> Floats:
    """Return the logits of `learn`.

    Args:
        problem: Examples and texts.
        images: Unit rows, shape ``(n_images, dim)``.
    """
    return np.asarray(problem.scale * images @ learn(problem).weights.T)
