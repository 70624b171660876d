"""Choose how strongly the weights are drawn to the texts: by folds, on the log-loss of images that were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
is a linear probe. The whole texts come first, and shorter ones are tried as long as shortening helps clearly."""

CAUTIOUS = 1 / 4
"""A weaker pull than this, or one to shortened texts, needs more than a lower log-loss: more images left out have
to be right, by a sign test at `SIGNIFICANT`. With few examples the log-loss alone is too often lower by chance."""

SIGNIFICANT = 0.05

ONE_EXAMPLE = 1.0
"""With one example per label nothing can be left out to choose by."""

FOLDS = 5

_NEAR = 0.1
"""How much higher than the lowest a roughly known loss may be, as a share, for its pull to be fitted more closely."""

_WORTH = 0.01
"""How much the loss has to fall, as a share, by shorter texts for still shorter ones to be tried."""


@dataclass(frozen=True, slots=True)
class _Closeness:
    """When a fold's fit ends: nats an image that its own loss may be above the minimum, and the arithmetic."""

    nats: float
    dtype: type[np.floating]


_ROUGH = _Closeness(1e-4, np.float32)
"""For every pull: the loss on the images left out is off by some percent where the pull is weak."""

_CLOSE = _Closeness(1e-6, np.float32)
"""For the pulls that may be the best: within some tenths of a percent."""

_EXACT = _Closeness(1e-8, np.float64)
"""For the chosen one, whose answers are reported."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A pull that was tried by folds.

    Attributes:
        strength: Of the pull; infinity for the texts alone.
        length: What the texts' rows were multiplied by.
        loss: Mean log-loss of the images left out, in nats.
        logits: Of every image by the folds that did not see it, shape ``(n_images, n_labels)``.
        weights: Of each fold, shape ``(n_labels, dim)``.
        closeness: Of the fits.
    """

    strength: float
    length: float
    loss: float
    logits: npt.NDArray[np.float32] = field(repr=False)
    weights: tuple[Doubles, ...] = field(repr=False)
    closeness: _Closeness

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
    folded = _Folded.of(problem, split_folds(problem.targets, groups, n_folds, seed))
    losses: dict[tuple[float, float], float] = {}
    kept: list[Trial] = []
    n_fits, lowest = 0, np.inf
    for length in find_lengths(problem):
        path = tuple(strength for strength in strengths if length == 1 or np.isfinite(strength))
        for trial in folded.follow(path, length):
            on_progress(n_folds)
            n_fits += n_folds
            losses[trial.strength, trial.length] = trial.loss
            kept = _contenders([*kept, trial])
        kept = [folded.refit(trial, _CLOSE) if trial.closeness is _ROUGH else trial for trial in kept]
        losses |= {(trial.strength, trial.length): trial.loss for trial in kept}
        if min(trial.loss for trial in kept) >= (1 - _WORTH) * lowest:
            break
        lowest = min(trial.loss for trial in kept)
    while (chosen := _choose(problem, kept)).closeness is not _EXACT:
        exact = folded.refit(chosen, _EXACT)
        kept = [exact if trial is chosen else trial for trial in kept]
        losses[exact.strength, exact.length] = exact.loss
    drawn_to = replace(problem, anchor=chosen.length * problem.anchor)
    final = fit(drawn_to, chosen.strength, np.mean(chosen.weights, axis=0))
    on_progress(count_fits(problem.targets, strengths) - n_fits)
    tried = tuple((*key, loss) for key, loss in losses.items())
    return Learned(final.astype(np.float32), chosen.strength, chosen.length, tried, chosen.logits, groups)


def find_lengths(problem: Problem) -> tuple[float, ...]:
    """Return the lengths of the texts to try.

    Beside labels without examples, which nothing but their texts speaks for, texts are not shortened.
    """
    covered = len(np.unique(problem.targets)) == len(problem.anchor)
    return LENGTHS if covered and np.any(problem.anchor) else LENGTHS[:1]


@dataclass(frozen=True, slots=True)
class _Folded:
    """A problem, and for each fold the images left out and the problem without them."""

    problem: Problem
    parts: tuple[tuple[Indices, Problem], ...]

    @classmethod
    def of(cls, problem: Problem, folds: Indices) -> _Folded:
        """Return a problem in folds, given the fold of each image, shape ``(n_images,)``."""
        parts = (
            (np.flatnonzero(folds == fold), problem.subset(np.flatnonzero(folds != fold))) for fold in np.unique(folds)
        )
        return cls(problem, tuple(parts))

    def follow(self, strengths: Iterable[float], length: float) -> Iterator[Trial]:
        """Try strengths roughly, with the texts at a length, each fit started where the last one ended.

        Along a path the loss falls, and then rises: bold pulls end where it has risen clearly.
        """
        weights: tuple[Doubles, ...] = (length * np.asarray(self.problem.anchor, dtype=np.float64),) * len(self.parts)
        before = np.inf
        for strength in strengths:
            trial = self._fit(strength, length, weights, _ROUGH)
            yield trial
            if not trial.cautious and trial.loss > (1 + _NEAR) * before:
                return
            before, weights = trial.loss, trial.weights

    def refit(self, trial: Trial, closeness: _Closeness) -> Trial:
        """Return a trial fitted more closely, started from its weights."""
        return self._fit(trial.strength, trial.length, trial.weights, closeness)

    def _fit(self, strength: float, length: float, starts: tuple[Doubles, ...], closeness: _Closeness) -> Trial:
        problem, weights = self.problem, []
        logits = np.zeros((len(problem.targets), len(problem.anchor)), dtype=np.float32)
        for (held_out, seen), start in zip(self.parts, starts, strict=True):
            drawn_to = replace(seen, anchor=length * problem.anchor)
            enough = closeness.nats * len(seen.targets)
            weights.append(fit(drawn_to, strength, start, enough, closeness.dtype))
            logits[held_out] = problem.scale * problem.features[held_out] @ weights[-1].T
        loss = float(log_losses(logits, problem.targets).mean())
        return Trial(strength, length, loss, logits, tuple(weights), closeness)


def _contenders(trials: list[Trial]) -> list[Trial]:
    """Return the trials that are near the best of their kind, cautious or not."""
    lowest = {trial.cautious: np.inf for trial in trials}
    for trial in trials:
        lowest[trial.cautious] = min(lowest[trial.cautious], trial.loss)
    return [trial for trial in trials if trial.loss <= (1 + _NEAR) * lowest[trial.cautious]]


def _choose(problem: Problem, trials: list[Trial]) -> Trial:
    """Return the trial with the lowest log-loss, unless that is a bold one which makes too few more images right."""
    best: dict[bool, Trial] = {}
    for trial in trials:  # the first of equal ones: the stronger pull
        if trial.cautious not in best or trial.loss < best[trial.cautious].loss:
            best[trial.cautious] = trial
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
