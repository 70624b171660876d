"""Calibrate probabilities by temperature scaling: fit a temperature, and the threshold below which it is "unknown".

Dividing logits by one number changes no answer, but for sums of groups, only how sure it sounds: Guo, Pleiss, Sun and
Weinberger, "On Calibration of Modern Neural Networks" (2017). The threshold is the lowest that reaches a wanted
precision: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks" (2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..enums import Score
from ..scoring import Classifier
from . import statistics
from .evaluate import BLOCK, EncodedDataset, Evaluation, evaluate
from .metrics import Indices
from .statistics import Answering, RiskPoint, measure_answering

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
"""Where a temperature is looked for; on images without a mistake, the best one would be zero."""

MIN_ANSWERED = 10
"""A threshold that leaves fewer answers than this rests on nothing."""

_STEPS = 45


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted temperature and threshold with their effect on held-out images.

    Attributes:
        temperature: Logits are divided by it; above 1 the model was too sure.
        threshold: Below this probability the answer is "unknown"; None where no precision was asked for, or none
            reaches it.
        wanted: The precision asked for; None where none was.
        fitted_on: Images in the half that was fitted on.
        before: The held-out half, uncalibrated.
        after: The held-out half, calibrated.
        answering: The held-out half under the threshold; None without one.
    """

    temperature: float
    threshold: float | None
    wanted: float | None
    fitted_on: int
    before: Evaluation
    after: Evaluation
    answering: Answering | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What gets worse on held-out images although the calibration error does not, in one line each."""
        pairs = (
            ("log-likelihood", "−", self.before.metrics.nll.value, self.after.metrics.nll.value),
            ("Brier score", "", self.before.metrics.brier.value, self.after.metrics.brier.value),
        )
        lost = 100 * (self.before.metrics.top1.value - self.after.metrics.top1.value)
        found = [f"top-1 falls by {lost:.1f} points: a temperature reorders sums of groups"] if lost > 0 else []
        return *found, *(
            f"the {name} gets worse on the images held out: {sign}{before:.4f} to {sign}{after:.4f}"
            for name, sign, before, after in pairs
            if round(after, 4) > round(before, 4)
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """Reasons not to use it, in one line each: no fit, a larger error, or less precision than was asked for."""
        found = []
        if not 1.001 * MIN_TEMPERATURE < self.temperature < MAX_TEMPERATURE / 1.001:
            few = "wrong" if self.temperature < 1 else "right"
            found.append(
                f"no temperature could be fitted: the best is the limit of the search, {self.temperature:.4g},"
                f" since of the {self.fitted_on} images fitted on too few are {few}"
            )
        before, after = self.before.metrics.ece.value, self.after.metrics.ece.value
        if round(after, 4) > round(before, 4):
            found.append(f"this calibration makes it worse: held-out calibration error {before:.4f} to {after:.4f}")
        if self.wanted is not None and self.threshold is None:
            found.append(f"no threshold reaches {100 * self.wanted:g} % precision with {MIN_ANSWERED} answers or more")
        if self.wanted is not None and self.answering is not None:
            precision = self.answering.precision
            if precision.high is not None and precision.high < self.wanted:
                found.append(
                    f"this threshold misses {100 * self.wanted:g} % precision: {100 * precision.value:.1f} % on the"
                    f" images held out, at most {100 * precision.high:.1f} %"
                )
        return tuple(found)


def calibrate(
    seen: EncodedDataset, held_out: EncodedDataset, classifier: Classifier, keys: tuple[str, ...], wanted: float | None
) -> Fit:
    """Fit on one half and measure on the other.

    Args:
        seen: The images to fit on.
        held_out: The images to measure on.
        classifier: Whose probabilities.
        keys: The folder or table spelling of each label.
        wanted: A precision in (0, 1] that answers should reach; None for no threshold.
    """
    logits = np.concatenate(
        [classifier.scores(seen.features[i : i + BLOCK]).logits for i in range(0, len(seen.features), BLOCK)]
    )
    temperature = fit_temperature(logits, seen.targets, classifier.score)
    calibrated = cool(classifier, temperature)
    threshold = None
    if wanted is not None:
        fitted = evaluate(seen, calibrated, keys)
        answered = ~fitted.outdone  # those that a background label takes are unknown at every threshold
        if answered.any():
            risk = statistics.risk_coverage(fitted.probabilities[answered, 0], fitted.right[answered])
            threshold = choose_threshold(risk, wanted, int(answered.sum()))
    after = evaluate(held_out, calibrated, keys)
    answering = None
    if threshold is not None:
        answering = measure_answering(np.where(after.outdone, -1.0, after.probabilities[:, 0]), after.right, threshold)
    before = evaluate(held_out, classifier, keys)
    return Fit(temperature, threshold, wanted, len(seen.paths), before, after, answering)


def cool(classifier: Classifier, temperature: float) -> Classifier:
    """Return the classifier with its logits divided by a temperature."""
    scale, bias = classifier.logit_scale / temperature, classifier.logit_bias / temperature
    return replace(classifier, logit_scale=scale, logit_bias=bias)


def fit_temperature(logits: npt.NDArray[np.floating], targets: Indices, score: Score) -> float:
    """Return the temperature that makes the true labels most likely.

    The mean loss is convex in the inverse temperature b, and its derivative is the mean over images of
    ``sum_j (p_j - y_j) z_j`` for softmax and sigmoid alike: bisection finds where it changes sign.

    Args:
        logits: Shape ``(n_images, n_labels)``.
        targets: True label indices, shape ``(n_images,)``.
        score: How logits become probabilities.
    """
    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _slope(logits, targets, score, float(np.exp(middle))) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2))


def _slope(logits: npt.NDArray[np.floating], targets: Indices, score: Score, inverse: float) -> float:
    total = 0.0
    for start in range(0, len(logits), BLOCK):
        block = np.asarray(logits[start : start + BLOCK], dtype=np.float64)
        logs = statistics.log_softmax if score is Score.SOFTMAX else statistics.log_sigmoid
        expected = (np.exp(logs(inverse * block)) * block).sum(axis=1)
        own = np.take_along_axis(block, targets[start : start + BLOCK, None], axis=1)[:, 0]
        total += float((expected - own).sum())
    return total


def choose_threshold(risk: tuple[RiskPoint, ...], wanted: float, n_images: int) -> float | None:
    """Return the lowest threshold at which the answers reach a precision.

    Args:
        risk: The risk-coverage curve of the images to choose by.
        wanted: The precision, in (0, 1].
        n_images: How many images the curve is of.

    Returns:
        Midway between the least sure image that is answered and the next one, 0 when all are answered, None when
        no threshold reaches the precision with at least `MIN_ANSWERED` answers.
    """
    reached = [
        index
        for index, point in enumerate(risk)
        if 1 - point.risk >= wanted and point.coverage * n_images >= MIN_ANSWERED - 0.5
    ]
    if not reached:
        return None
    last = reached[-1]
    if last == len(risk) - 1:
        return 0.0
    return (risk[last].threshold + risk[last + 1].threshold) / 2
