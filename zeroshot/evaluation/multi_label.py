"""Measures answers of several labels per image, and fits what turns their logits into probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..multi_label import Judge
from . import statistics
from .evaluate import BLOCK, EncodedDataset
from .metrics import Indices
from .statistics import Booleans, Doubles, Estimate

DEFAULT_THRESHOLD = 0.5
"""From which probability on an image has a label, where none is given or was fitted."""

MIN_GIVEN = 10
"""A threshold from which on fewer labels are given rests on nothing."""

_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label's results; None where nothing is counted.

    Attributes:
        label: Its name.
        key: The table's spelling or the folder's name.
        images: Images that have it.
        given: Images that were given it.
        average_precision: Area under its precision-recall curve, in [0, 1], as a sum of steps.
        precision: Share of the images given it that have it.
        recall: Share of the images that have it that were given it.
        f1: Harmonic mean of the two.
    """

    label: str
    key: str
    images: int
    given: int
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class MultiLabelResult:
    """Several labels per image, measured.

    Attributes:
        mean_average_precision: Mean over the labels that images have.
        micro_f1: F1 of all pairs of image and label together.
        macro_f1: Mean of the labels' F1 over those that images have.
        precision: Share of the labels given that are right.
        recall: Share of the images' labels that are given.
        exact: Share of images whose labels are all right.
        ece: Expected calibration error of all pairs, in [0, 1].
        nll: Mean negative log-likelihood of a pair, in nats.
        threshold: From which probability on an image was given a label.
        per_label: Every label's results.
        probabilities: Shape ``(n_images, n_labels)``.
        truth: Which labels an image has, same shape.
        data: The images.
    """

    mean_average_precision: float
    micro_f1: float
    macro_f1: float
    precision: Estimate
    recall: Estimate
    exact: float
    ece: float
    nll: float
    threshold: float
    per_label: tuple[LabelScore, ...]
    probabilities: Doubles
    truth: Booleans
    data: EncodedDataset


def measure(
    data: EncodedDataset, judge: Judge, truth: Booleans, keys: tuple[str, ...], threshold: float
) -> MultiLabelResult:
    """Measure a judge on images whose labels are known.

    Args:
        data: Features; its targets are not used.
        judge: What judges them.
        truth: Which labels an image has, shape ``(n_images, n_labels)``.
        keys: The table's spelling of each label.
        threshold: From which probability on an image has a label.

    Raises:
        InputError: No image has a label.
    """
    if not truth.any():
        raise InputError(
            "no image has a label, so there is nothing to measure", "see `eval --targets` in docs/evaluation.md"
        )
    logits = judge_all(judge, data)
    logs = statistics.log_sigmoid(logits)
    probabilities = np.exp(logs)
    given = probabilities >= threshold
    names = judge.classifier.labels.names
    per_label = tuple(
        _score_label(name, key, probabilities[:, index], truth[:, index], given[:, index])
        for index, (name, key) in enumerate(zip(names, keys, strict=True))
    )
    present = [label for label in per_label if label.images]
    return MultiLabelResult(
        mean_average_precision=float(np.mean([label.average_precision for label in present])),
        micro_f1=f1_score(int((given & truth).sum()), int(given.sum()), int(truth.sum())) or 0.0,
        macro_f1=float(np.mean([label.f1 or 0.0 for label in present])),
        precision=statistics.wilson(int((given & truth).sum()), int(given.sum())),
        recall=statistics.wilson(int((given & truth).sum()), int(truth.sum())),
        exact=float((given == truth).all(axis=1).mean()),
        ece=statistics.calibration_error(statistics.reliability(probabilities.ravel(), truth.ravel())),
        nll=float(-np.where(truth, logs, logs - logits).mean()),
        threshold=threshold,
        per_label=per_label,
        probabilities=probabilities,
        truth=truth,
        data=data,
    )


def judge_all(judge: Judge, data: EncodedDataset) -> Doubles:
    """Return the logits of every image and label, shape ``(n_images, n_labels)``."""
    parts = [judge.logits(data.features[start : start + BLOCK]) for start in range(0, len(data.features), BLOCK)]
    return np.asarray(np.concatenate(parts), dtype=np.float64)


def _score_label(name: str, key: str, probabilities: Doubles, truth: Booleans, given: Booleans) -> LabelScore:
    images, count, right = int(truth.sum()), int(given.sum()), int((given & truth).sum())
    return LabelScore(
        name,
        key,
        images,
        count,
        average_precision(probabilities, truth) if images else None,
        right / count if count else None,
        right / images if images else None,
        f1_score(right, count, images),
    )


def f1_score(right: int, given: int, true: int) -> float | None:
    """Return the harmonic mean of precision and recall; None where nothing is given or true."""
    return 2 * right / (given + true) if given + true else None


def average_precision(scores: npt.NDArray[np.floating], truth: Booleans) -> float:
    """Return the sum of precision over each step of recall, highest scores first; equal scores are one step.

    Args:
        scores: Shape ``(n_images,)``.
        truth: Which images have the label, same shape; one at least.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    right = np.cumsum(truth[order])[last]
    precision, recall = right / (last + 1), right / truth.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def fit_probabilities(logits: Doubles, truth: Booleans) -> tuple[float, float]:
    """Return the slope and offset with which the sigmoid makes the truth most likely (Platt scaling).

    Newton's method on the convex mean log-loss, each step halved until the loss falls. As in Platt's paper, targets are
    drawn in from 0 and 1 by one image, so that there is a minimum where a threshold separates all pairs.

    Args:
        logits: Of pairs of image and label, any shape.
        truth: Whether the image has the label, same shape.
    """
    x = np.stack([logits.ravel(), np.ones(logits.size)], axis=1)
    yes, no = int(truth.sum()), int((~truth).sum())
    wanted = np.where(truth.ravel(), (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(point: Doubles) -> float:
        z = x @ point
        return float(np.mean(np.logaddexp(0.0, z) - wanted * z))

    point, value = np.asarray([1.0, 0.0]), loss(np.asarray([1.0, 0.0]))
    for _ in range(_ROUNDS):
        p = np.exp(statistics.log_sigmoid(x @ point))
        gradient = x.T @ (p - wanted) / len(x)
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while share > 1e-10 and loss(point - share * step) > value:
            share /= 2
        following = loss(point - share * step)
        if value - following < 1e-14:
            break
        point, value = point - share * step, following
    return float(point[0]), float(point[1])


def choose_threshold(probabilities: Doubles, truth: Booleans, precision: float | None) -> float | None:
    """Return the threshold with the highest F1 of all pairs, or the lowest that reaches a precision.

    Args:
        probabilities: Of pairs of image and label, any shape.
        truth: Whether the image has the label, same shape.
        precision: In (0, 1]; None for the highest F1.

    Returns:
        In [0, 1], midway between two probabilities; None where none reaches the precision with `MIN_GIVEN` labels.
    """
    flat, right = probabilities.ravel(), truth.ravel()
    order = np.argsort(-flat, kind="stable")
    ordered = flat[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits, given = np.cumsum(right[order])[last], last + 1
    if precision is None:
        best = int((2 * hits / (given + right.sum())).argmax())
    else:
        reached = np.flatnonzero((hits / given >= precision) & (given >= MIN_GIVEN))
        if not len(reached):
            return None
        best = int(reached[-1])
    return float((ordered[last[best]] + ordered[last[best + 1]]) / 2) if best + 1 < len(last) else 0.0


@dataclass(frozen=True, slots=True)
class MultiLabelFit:
    """A fitted slope, offset and threshold with their effect on held-out images.

    Attributes:
        judge: With them.
        threshold: None where no threshold reaches the precision asked for.
        wanted: The precision asked for; None where the threshold is that of the highest F1.
        fitted_on: Images in the half that was fitted on.
        before: The held-out half without the fit, at `DEFAULT_THRESHOLD`.
        after: The held-out half with it.
    """

    judge: Judge
    threshold: float | None
    wanted: float | None
    fitted_on: int
    before: MultiLabelResult
    after: MultiLabelResult

    @property
    def problems(self) -> tuple[str, ...]:
        """Reasons not to use it, in one line each."""
        found = []
        if self.judge.slope <= 0:
            found.append("the labels are no likelier where their logits are higher: this model cannot tell them")
        if self.threshold is None:
            found.append(f"no threshold gives {100 * (self.wanted or 0):g} % precision on {MIN_GIVEN} labels or more")
        elif self.wanted is not None and (self.after.precision.high or 0.0) < self.wanted:
            precision = self.after.precision
            found.append(
                f"this threshold misses {100 * self.wanted:g} % precision: {100 * precision.value:.1f} % on the images"
                f" held out, at most {100 * (precision.high or 0.0):.1f} %"
            )
        if round(self.after.nll, 6) > round(self.before.nll, 6):
            found.append(
                f"this calibration makes it worse: held-out log-loss {self.before.nll:.4f} to {self.after.nll:.4f}"
            )
        return tuple(found)


def calibrate(
    data: EncodedDataset,
    halves: tuple[Indices, Indices],
    judge: Judge,
    truth: Booleans,
    keys: tuple[str, ...],
    wanted: float | None,
) -> MultiLabelFit:
    """Fit on one half and measure on the other.

    Args:
        data: The images.
        halves: The rows to fit on and those to measure on.
        judge: Without a fit.
        truth: Which labels an image has, shape ``(n_images, n_labels)``.
        keys: The table's spelling of each label.
        wanted: A precision in (0, 1] that labels should reach; None for the highest F1.
    """
    seen, held_out = halves
    logits = judge_all(judge, data.subset(seen))
    slope, offset = fit_probabilities(logits, truth[seen])
    fitted = replace(judge, slope=slope, offset=offset)
    probabilities = np.exp(statistics.log_sigmoid(slope * logits + offset))
    threshold = choose_threshold(probabilities, truth[seen], wanted)
    rest = data.subset(held_out)
    before = measure(rest, judge, truth[held_out], keys, DEFAULT_THRESHOLD)
    after = measure(rest, fitted, truth[held_out], keys, DEFAULT_THRESHOLD if threshold is None else threshold)
    return MultiLabelFit(fitted, threshold, wanted, len(seen), before, after)
