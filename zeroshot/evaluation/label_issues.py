"""Images whose given label is most likely wrong.

The rule is that of confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in
Dataset Labels", 2021): each label has its own bar, the mean probability that its own images give it. An image
that clears the bar of another label, and gives its own label less, is suspected; the widest gap comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import statistics
from .evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """One image whose label is probably wrong.

    Attributes:
        row: Its place among the measured images.
        path: Its path.
        given: The label that it came with.
        given_probability: That label's probability, in [0, 1].
        suggested: The label that it looks like.
        suggested_probability: That label's probability.
        reason: Why, in a sentence.
    """

    row: int
    path: str
    given: str
    given_probability: float
    suggested: str
    suggested_probability: float
    reason: str


def find_label_issues(result: Evaluation, names: Sequence[str], count: int) -> tuple[LabelIssue, ...]:
    """Return the images whose label is most likely wrong, the most suspicious first.

    Args:
        result: A run; the five best labels of each image are looked at.
        names: The labels' names, by index.
        count: How many at most.
    """
    targets = result.data.targets
    bars = np.full(len(names), np.inf)
    for index in np.unique(targets):
        bars[index] = result.target_probabilities[targets == index].mean()
    other = result.ranking != targets[:, None]
    clears = other & (result.probabilities >= bars[result.ranking])
    gaps = np.where(clears, result.probabilities - result.target_probabilities[:, None], -np.inf)
    best = gaps.argmax(axis=1)
    widest = gaps[np.arange(len(gaps)), best]
    rows = [int(row) for row in np.argsort(-widest, kind="stable")[:count] if widest[row] > 0]
    return tuple(_label_issue(result, names, bars, row, int(best[row])) for row in rows)


def _label_issue(
    result: Evaluation, names: Sequence[str], bars: statistics.Doubles, row: int, place: int
) -> LabelIssue:
    target, other = int(result.data.targets[row]), int(result.ranking[row, place])
    own, theirs = float(result.target_probabilities[row]), float(result.probabilities[row, place])
    reason = (
        f"labelled {names[target]} ({100 * own:.1f}%), looks like {names[other]} ({100 * theirs:.1f}%); "
        f"images labelled {names[other]} get {100 * bars[other]:.1f}% on average"
    )
    return LabelIssue(row, result.data.paths[row], names[target], own, names[other], theirs, reason)
