"""Choose how strongly the weights are drawn to the texts: by folds, on the log-loss of images that were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from .folds import group_copies, split_folds
from .lbfgs import Doubles
from .regression import Indices, Problem, fit

STRENGTHS = (np.inf, 64.0, 16.0, 4.0, 1.0, 1 / 4, 1 / 16, 1 / 64)
"""What is tried, the strongest pull to the texts first: each solution is the start for the next. Infinity is the texts
alone, so that examples which do not help can be refused."""

LENGTHS = (1.0, 1 / 2, 0.0)
"""What the texts' rows are multiplied by before the weights are drawn to them: a shorter row is a softer text, and none
is a linear probe. The whole texts come first, and shorter ones are tried as long as shortening helps."""

CAUTIOUS = 1 / 4
"""A weaker pull than this, or one to shortened texts, needs more than a lower log-loss: more images left out have
to be right, by a sign test at `SIGNIFICANT`. With few examples the log-loss alone is too often lower by chance."""

SIGNIFICANT = 0.05

ONE_EXAMPLE = 1.0
"""With one example a label nothing can be left out to choose by."""

FOLDS = 5

_ENOUGH = 1e-4
"""Nats an image within which a fold's loss is known when strengths are compared."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A pull that was tried by folds.

    Attributes:
        strength: Of the pull; infinity for the texts alone.
        length: What the texts' rows were multiplied by.
        loss: Mean log-loss of the images left out, in nats.
        logits: Of every image by the folds that did not see it, shape ``(n_images, n_labels)``.
        start: Mean of the folds' weights, shape ``(n_labels, dim)``.
    """

    strength: float
    length: float
    loss: float
    logits: npt.NDArray[np.float32] = field(repr=False)
    start: Doubles = field(repr=False)

    @property
    def cautious(self) -> bool:
        """Whether a lower log-loss is enough to choose it."""
        return self.length == 1 and self.strength >= CAUTIOUS


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights that were learned, and what chose them.

    Attributes:
        weights: Shape ``(n_labels, dim)``, float32; not of unit length.
        strength: Of the pull to the anchor; infinity where the texts alone were best.
        length: What the anchor was multiplied by.
        losses: Each strength and length that was tried, with the mean log-loss of the images left out, in nats; empty
            where none could be left out.
        logits: Of every image by the folds that did not see it, shape ``(n_images, n_labels)``; None likewise.
        groups: For each image the first that it is a copy of, shape ``(n_images,)``.
    """

    weights: Features
    strength: float
    length: float
    losses: tuple[tuple[float, float, float], ...]
    logits: npt.NDArray[np.float32] | None
    groups: Indices


def learn(
    problem: Problem,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Learned:
    """Learn weights from examples, with the pull that folds choose.

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
        return Learned(weights.astype(np.float32), ONE_EXAMPLE, 1.0, (), None, groups)
    folds = split_folds(problem.targets, groups, n_folds, seed)
    losses: list[tuple[float, float, float]] = []
    best: dict[bool, Trial] = {}  # the best cautious one, and the best of the others
    n_fits, lowest = 0, np.inf
    for length in find_lengths(problem):
        path = tuple(strength for strength in strengths if length == 1 or np.isfinite(strength))
        before = np.inf
        for trial in _follow(problem, folds, length, path):
            on_progress(n_folds)
            n_fits += n_folds
            losses.append((trial.strength, trial.length, trial.loss))
            # The first of equal ones: the stronger pull.
            if trial.cautious not in best or trial.loss < best[trial.cautious].loss:
                best[trial.cautious] = trial
            if not trial.cautious and trial.loss > before:  # along a path it falls, and then rises
                break
            before = trial.loss
        if min(trial.loss for trial in best.values()) >= lowest:
            break
        lowest = min(trial.loss for trial in best.values())
    chosen = _choose(problem, best)
    drawn_to = replace(problem, anchor=chosen.length * problem.anchor)
    final = fit(drawn_to, chosen.strength, chosen.start)
    on_progress(count_fits(problem.targets, strengths) - n_fits)
    return Learned(final.astype(np.float32), chosen.strength, chosen.length, tuple(losses), chosen.logits, groups)


def find_lengths(problem: Problem) -> tuple[float, ...]:
    """Return the lengths of the texts to try.

    Beside labels without examples, which nothing but their texts speaks for, texts are not shortened.
    """
    covered = len(np.unique(problem.targets)) == len(problem.anchor)
    return LENGTHS if covered and np.any(problem.anchor) else LENGTHS[:1]


def _follow(problem: Problem, folds: Indices, length: float, strengths: tuple[float, ...]) -> Iterator[Trial]:
    """Try strengths one after the other with the texts at a length, each fit started where the last one ended."""
    drawn_to = replace(problem, anchor=length * problem.anchor)
    parts = [
        (np.flatnonzero(folds == fold), drawn_to.subset(np.flatnonzero(folds != fold))) for fold in np.unique(folds)
    ]
    weights = [np.asarray(drawn_to.anchor, dtype=np.float64) for _ in parts]
    for strength in strengths:
        logits = np.zeros((len(problem.targets), len(problem.anchor)), dtype=np.float32)
        for fold, (held_out, seen) in enumerate(parts):
            weights[fold] = fit(seen, strength, weights[fold], _ENOUGH * len(seen.targets), np.float32)
            logits[held_out] = problem.scale * problem.features[held_out] @ weights[fold].T
        loss = float(log_losses(logits, problem.targets).mean())
        yield Trial(strength, length, loss, logits, np.mean(weights, axis=0))


def _choose(problem: Problem, best: dict[bool, Trial]) -> Trial:
    """Return the trial with the lowest log-loss, unless that is a bold one which makes too few more images right."""
    if len(best) == 1:
        return next(iter(best.values()))
    cautious, bold = best[True], best[False]
    if bold.loss >= cautious.loss:
        return cautious
    texts = (problem.features @ problem.anchor.T).argmax(axis=1) == problem.targets
    right = bold.logits.argmax(axis=1) == problem.targets
    gained, lost = int((right & ~texts).sum()), int((texts & ~right).sum())
    return bold if sign_test(gained, lost) < SIGNIFICANT else cautious


def sign_test(gained: int, lost: int) -> float:
    """Return how likely at least so many of the images that changed are gained, if each is a fair coin.

    The one-sided form of McNemar's exact test.
    """
    changed = gained + lost
    total = term = 1
    for i in range(lost):
        term = term * (changed - i) // (i + 1)
        total += term
    return total / (1 << changed)


def count_fits(targets: Indices, strengths: tuple[float, ...] = STRENGTHS) -> int:
    """Return how many fits `learn` makes at most, for a progress bar."""
    n_trials = len(strengths) + (len(LENGTHS) - 1) * int(np.isfinite(strengths).sum())
    return FOLDS * n_trials + 1 if len(targets) else 1


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
