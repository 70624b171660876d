"""Multinomial logistic regression on unit features, anchored: weights stay near given ones unless examples object.

The loss is the sum over examples of ``-log softmax(scale * x @ w.T)[target]`` plus
``strength * scale * ||w - anchor||^2``: the posterior mode under a Gaussian prior around the anchor (Li, Grandvalet and
Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks" (2018), call the penalty L2-SP).
With the sum, not the mean, examples outweigh the anchor the more of them there are: one that is wholly wrong moves its
label's row by ``x / (2 * strength)``. It is strongly convex, so there is one solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .lbfgs import Doubles, minimise

Indices = npt.NDArray[np.int64]

_BLOCK = 1024
"""Examples whose logits are held at a time: they stay in the processor's cache."""

DISTANCE = 1e-7
"""How near the minimum a fit ends, as the length of the difference of all weights."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Examples and what is known without them.

    Attributes:
        features: Unit rows, shape ``(n_images, dim)``.
        targets: Label indices, shape ``(n_images,)``.
        anchor: What the weights are drawn to, shape ``(n_labels, dim)``.
        scale: What products of features and weights are multiplied by to be logits.
    """

    features: npt.NDArray[np.floating]
    targets: Indices
    anchor: npt.NDArray[np.floating]
    scale: float

    def subset(self, rows: Indices) -> Problem:
        """Return the problem with some of the examples only."""
        return Problem(self.features[rows], self.targets[rows], self.anchor, self.scale)


def fit(
    problem: Problem,
    strength: float,
    start: npt.NDArray[np.floating] | None = None,
    least_decrease: float | None = None,
    dtype: type[np.floating] = np.float64,
) -> Doubles:
    """Return the weights with the lowest loss, shape ``(n_labels, dim)``.

    Args:
        problem: Examples and anchor.
        strength: Of the pull to the anchor; infinity gives the anchor itself.
        start: Where to begin, such as the solution for a similar strength; the anchor unless given.
        least_decrease: As in `minimise`; unless given, so little that no weight is off by more than `DISTANCE`.
        dtype: Arithmetic of the large products: float32 is twice as fast, and enough to compare strengths.
    """
    anchor = np.asarray(problem.anchor, dtype=np.float64)
    if np.isinf(strength) or not len(problem.targets):
        return anchor
    features = np.ascontiguousarray(problem.features, dtype=dtype)
    pull = strength * problem.scale
    # Strong convexity: the loss is at least `pull * distance^2` above its minimum.
    enough = pull * DISTANCE**2 if least_decrease is None else least_decrease

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        columns = (problem.scale * weights).astype(dtype).T
        away = weights - anchor
        value, gradient = pull * float(np.vdot(away, away)), 2 * pull * away
        for start in range(0, len(features), _BLOCK):
            part, targets = features[start : start + _BLOCK], problem.targets[start : start + _BLOCK]
            rows = np.arange(len(part))
            logits = part @ columns
            logits -= logits.max(axis=1, keepdims=True)
            of_target = logits[rows, targets].astype(np.float64)
            np.exp(logits, out=logits)
            sums = logits.sum(axis=1, keepdims=True)
            logits /= sums
            logits[rows, targets] -= 1
            value += float(np.log(sums, dtype=np.float64).sum() - of_target.sum())
            gradient += problem.scale * (logits.T @ part)
        return value, gradient

    inverse = _inverse_curvature(features, len(anchor), problem.scale, pull)
    begin = anchor if start is None else np.asarray(start, dtype=np.float64)
    return minimise(loss, begin, lambda gradient: gradient @ inverse, enough).point


def _inverse_curvature(features: npt.NDArray[np.floating], n_labels: int, scale: float, pull: float) -> Doubles:
    """Return the inverse of a label's block of the Hessian where all labels are equally likely, ``(dim, dim)``.

    A step for one label costs the more the more examples lie along it; without this the common direction of all image
    features makes the problem badly conditioned.
    """
    share = (n_labels - 1) / n_labels**2
    gram = np.asarray(features.T @ features, dtype=np.float64)
    return np.asarray(np.linalg.inv(scale**2 * share * gram + 2 * pull * np.eye(len(gram))), dtype=np.float64)
