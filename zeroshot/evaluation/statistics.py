"""Confidence intervals, tests and calibration measures: standard formulas in numpy, each with its source.

They are few and short, and the tests hold every one against scipy or scikit-learn; depending on those at run time
would cost a second of import for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval."""

RESAMPLES = 4000
"""Bootstrap resamples: the ends of a 95 % interval then wobble by a few hundredths of its width."""

SEED = 0
"""Resampling is seeded, so that the same predictions give the same interval."""

BINS = 15
"""Bins of the reliability diagram, as in Guo et al. (2017)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number and its 95 % interval; the ends are None where no interval is known.

    Attributes:
        value: The number.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose confidence lies in ``(low, high]``.

    Attributes:
        low: Excluded lower end (0 is included in the first bin).
        high: Included upper end.
        count: How many images.
        confidence: Their mean confidence; 0 where there are none.
        accuracy: The share of them that is right; 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Answering:
    """Precision and coverage at a threshold.

    Attributes:
        precision: Share of the answers that are right.
        coverage: Share of the images that are answered.
    """

    precision: Estimate
    coverage: Estimate


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """What happens when only the most confident images are answered.

    Attributes:
        coverage: Share of images answered.
        risk: Share of wrong answers among them.
        threshold: The confidence from which on an image is answered.
    """

    coverage: float
    risk: float
    threshold: float


def wilson(successes: int, trials: int, level: float = LEVEL) -> Estimate:
    """Estimate a share with Wilson's score interval.

    Unlike ``p ± 1.96 s`` it stays inside [0, 1] and keeps its level near 0 and 1: Wilson (1927); recommended by
    Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion" (2001).
    """
    if trials == 0:
        return Estimate(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * float(np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)))
    # The exact ends at 0 and 1 are 0 and 1; rounding would miss them by 1e-17.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Estimate(share, low, high)


def mean_interval(values: Doubles, level: float = LEVEL) -> Estimate:
    """Estimate a mean with the normal interval ``mean ± z s / sqrt(n)``; no interval for a single value."""
    value = float(values.mean())
    if len(values) < 2:
        return Estimate(value)
    half = NormalDist().inv_cdf(0.5 + level / 2) * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return Estimate(value, value - half, value + half)


def mean_recall_interval(right: Indices, support: Indices, level: float = LEVEL) -> Estimate:
    """Estimate the mean of the labels' recalls with the normal interval of stratified shares (Cochran 1977, chapter 5).

    A few images say little of how a label's recall varies, and one says nothing. So for the variance each recall is
    drawn to that of all images, as if ``z^2`` more images of the label had been right at that rate (as Agresti and
    Coull 1998 draw a share to a half). The interval lies around its value. Resampling images would leave out the
    labels with few of them by chance, which moves the mean.

    Args:
        right: Images of each label that were given it, shape ``(n_labels,)``.
        support: Images of each label, same shape; labels without any are left out.
        level: Of confidence.
    """
    right, support = right[support > 0], support[support > 0]
    hits, total = int(right.sum()), int(support.sum())
    if hits in (0, total):
        # Ten right answers of ten are no proof of perfection.
        return wilson(hits, total, level)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    drawn = (right + z * z * hits / total) / (support + z * z)
    value = float((right / support).mean())
    half = z * float(np.sqrt((drawn * (1 - drawn) / support).sum())) / len(support)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def paired_difference(
    only_first: int, only_second: int, trials: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Estimate by how much the second of two runs over the same images is better, resampling images.

    Args:
        only_first: Images that only the first run has right.
        only_second: Images that only the second run has right.
        trials: All images.
        resamples: How many times to draw.
        seed: Of the generator.

    Returns:
        The difference of the shares that are right, second less first, in [-1, 1].
    """
    shares = np.asarray([only_first, only_second, trials - only_first - only_second]) / trials
    drawn = np.random.default_rng(seed).multinomial(trials, shares, size=resamples)
    low, high = _percentiles((drawn[:, 1] - drawn[:, 0]) / trials)
    return Estimate((only_second - only_first) / trials, low, high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test: the two-sided binomial test of the images that changed.

    Under no difference each changed image is a fair coin (McNemar 1947). Images on which both runs are right,
    or both wrong, say nothing about which is better.
    """
    changed = only_first + only_second
    fewer = min(only_first, only_second)
    if changed == 0:
        return 1.0
    # log C(changed, i) by the recurrence C(n, i+1) = C(n, i) (n-i) / (i+1): no factorial overflows.
    i = np.arange(fewer, dtype=np.float64)
    log_terms = np.concatenate([[0.0], np.cumsum(np.log(changed - i) - np.log(i + 1))])
    tail = float(np.exp(log_terms - changed * np.log(2.0)).sum())
    return min(1.0, 2.0 * tail)


def log_softmax(logits: npt.NDArray[np.floating]) -> Doubles:
    """Return the logarithms of the softmax of each row, in float64, without overflow."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


def log_sigmoid(logits: npt.NDArray[np.floating]) -> Doubles:
    """Return the logarithm of the sigmoid of each logit, in float64, without overflow."""
    return np.asarray(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64)), dtype=np.float64)


def brier(probabilities: Doubles, targets: Indices) -> Doubles:
    """Return each image's Brier score, in [0, 2]: squared distance of its probabilities from the truth (Brier 1950).

    Args:
        probabilities: Shape ``(n_images, n_labels)``.
        targets: True label indices, shape ``(n_images,)``.
    """
    of_target = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    return np.asarray((probabilities**2).sum(axis=1) - 2 * of_target + 1, dtype=np.float64)


def reliability(confidences: Doubles, right: Booleans, bins: int = BINS) -> tuple[Bin, ...]:
    """Sort images into bins of equal width by confidence: the reliability diagram of Guo et al. (2017).

    Args:
        confidences: Probability of each image's best label, shape ``(n_images,)``.
        right: Whether that label is the true one, same shape.
        bins: How many.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidences, side="left")
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=confidences, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(counts[i]),
            float(sums[i] / counts[i]) if counts[i] else 0.0,
            float(hits[i] / counts[i]) if counts[i] else 0.0,
        )
        for i in range(bins)
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error in [0, 1]: the mean gap of confidence and accuracy, by images."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


def risk_coverage(confidences: Doubles, right: Booleans) -> tuple[RiskPoint, ...]:
    """Trace the risk when more and more images are answered, the most confident first (El-Yaniv and Wiener 2010).

    Images of equal confidence cannot be told apart by a threshold: they are answered together.

    Returns:
        One point for each distinct confidence, from the smallest coverage to 1.
    """
    order = np.argsort(-confidences, kind="stable")
    ordered = confidences[order]
    wrong = np.cumsum(~right[order])
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    answered = last + 1
    total = len(confidences)
    return tuple(
        RiskPoint(float(n / total), float(wrong[i] / n), float(ordered[i])) for i, n in zip(last, answered, strict=True)
    )


def area_under_risk(points: tuple[RiskPoint, ...]) -> float:
    """Return the area under the risk-coverage curve in [0, 1], lower is better: the mean risk over all coverages."""
    coverage = np.asarray([0.0, *(point.coverage for point in points)])
    return float((np.diff(coverage) * np.asarray([point.risk for point in points])).sum())


def thin(points: Sequence[RiskPoint], count: int = 100) -> list[RiskPoint]:
    """Return at most about ``count`` points of a curve, evenly spaced, the first and last among them."""
    step = max(1, len(points) // count)
    return [*points[:-1:step], points[-1]]


def _percentiles(values: Doubles, level: float = LEVEL) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def measure_answering(confidences: Doubles, right: Booleans, threshold: float) -> Answering:
    """Return precision and coverage when only probabilities of at least a threshold are answered.

    Args:
        confidences: Probability of each image's best label, shape ``(n_images,)``.
        right: Whether that label is the true one.
        threshold: In [0, 1].
    """
    answered = confidences >= threshold
    n = int(answered.sum())
    return Answering(wilson(int(right[answered].sum()), n), wilson(n, len(right)))
