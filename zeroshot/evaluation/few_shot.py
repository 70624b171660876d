"""Measures accuracy by the number of examples per label: `learn` beside other methods, over several draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..learn.folds import group_copies
from ..learn.regression import Problem
from ..scoring import Classifier
from . import compare, statistics
from .evaluate import EncodedDataset
from .few_shot_baselines import Floats, anchored, gaussian, linear_probe, tip_adapter
from .metrics import Indices
from .statistics import Booleans

ZERO_SHOT = "zero-shot"
METHODS: dict[str, Callable[[Problem, Floats], Floats]] = {
    "learn": anchored,
    "tip-adapter": tip_adapter,
    "gaussian": gaussian,
    "linear probe": linear_probe,
}
"""What is measured beside the texts alone."""


@dataclass(frozen=True, slots=True)
class Point:
    """One method with one number of examples.

    Attributes:
        method: Its name.
        shots: Examples a label.
        top1: Mean over the draws of the share of right answers, in [0, 1].
        spread: Standard deviation over the draws; 0 for a single one.
        ece: Mean of the calibration errors, in [0, 1].
        paired: Compared with the texts alone, image by image, all draws together.
    """

    method: str
    shots: int
    top1: float
    spread: float
    ece: float
    paired: compare.Paired


@dataclass(frozen=True, slots=True)
class Curve:
    """All methods with all numbers of examples.

    Attributes:
        points: By number of examples, then method.
        zero_shot: The texts alone on the same images; its number of examples is 0.
        seeds: Draws.
        measured: Images measured on in each draw.
        fewer: Labels that have fewer images than the most examples need.
        examples: Examples that were drawn for each number of them, per label with images, mean over the draws.
    """

    points: tuple[Point, ...]
    zero_shot: Point
    seeds: int
    measured: tuple[int, ...]
    fewer: tuple[str, ...]
    examples: dict[int, float]


def draw(targets: Indices, groups: Indices, shots: Sequence[int], seed: int) -> tuple[dict[int, Indices], Indices]:
    """Draw examples, and keep the images to measure on: the same for every number of examples.

    A label gives at most half of its images. What is a copy of an example is not measured on, and no example is a copy
    of another: more of them begin with fewer.

    Args:
        targets: Label indices, shape ``(n_images,)``.
        groups: From `group_copies`, same shape.
        shots: Numbers of examples per label.
        seed: Of the draw.

    Returns:
        The rows drawn for each number, and those to measure on.
    """
    generator = np.random.default_rng(seed)
    drawn: dict[int, list[int]] = {count: [] for count in shots}
    for label in np.unique(targets):
        rows = generator.permutation(np.flatnonzero(targets == label))
        _, firsts = np.unique(groups[rows], return_index=True)
        distinct = rows[np.sort(firsts)]
        for count in shots:
            drawn[count] += distinct[: min(count, len(distinct) // 2)].tolist()
    used = groups[sorted({row for rows in drawn.values() for row in rows})]
    measured = np.flatnonzero(~np.isin(groups, used))
    return {count: np.asarray(rows, dtype=np.int64) for count, rows in drawn.items()}, measured


def trace_curve(
    data: EncodedDataset,
    texts: Classifier,
    shots: Sequence[int],
    seeds: int,
    on_progress: Callable[[int], None] = lambda _: None,
    methods: dict[str, Callable[[Problem, Floats], Floats]] = METHODS,
) -> Curve:
    """Measure every method with every number of examples.

    Args:
        data: Labelled images, to draw from and to measure on.
        texts: The classifier of the texts alone.
        shots: Numbers of examples per label.
        seeds: How many draws.
        on_progress: Called with the number of fits finished since the last call; there are
            ``seeds * len(shots) * len(methods)``.
        methods: By name.

    Raises:
        InputError: No image is left to measure on, or none to draw.
    """
    groups = group_copies(data.features)
    rights: dict[tuple[str, int], list[Booleans]] = {}
    errors: dict[tuple[str, int], list[float]] = {}
    measured: list[int] = []
    counted: dict[int, list[float]] = {count: [] for count in shots}

    def note(name: str, count: int, logits: Floats, rows: Indices) -> None:
        logs = statistics.log_softmax(logits)
        right = logs.argmax(axis=1) == data.targets[rows]
        bins = statistics.reliability(np.exp(logs.max(axis=1)), right)
        rights.setdefault((name, count), []).append(right)
        errors.setdefault((name, count), []).append(statistics.calibration_error(bins))

    for seed in range(seeds):
        drawn, rows = draw(data.targets, groups, shots, seed)
        if not len(rows) or not all(len(found) for found in drawn.values()):
            raise InputError("too few images to draw examples from and to measure on", "two a label are the least")
        measured.append(len(rows))
        images = data.features[rows]
        note(ZERO_SHOT, 0, texts.logit_scale * images @ texts.weights.T, rows)
        for count in shots:
            examples = drawn[count]
            counted[count].append(len(examples) / len(np.unique(data.targets)))
            problem = Problem(data.features[examples], data.targets[examples], texts.weights, texts.logit_scale)
            for name, method in methods.items():
                note(name, count, method(problem, images), rows)
                on_progress(1)
    baseline = np.concatenate(rights[ZERO_SHOT, 0])
    points = {
        key: Point(
            *key,
            float(np.mean([right.mean() for right in found])),
            float(np.std([right.mean() for right in found], ddof=1)) if seeds > 1 else 0.0,
            float(np.mean(errors[key])),
            compare.pair(baseline, np.concatenate(found)),
        )
        for key, found in rights.items()
    }
    counts = np.bincount(data.targets, minlength=len(texts.labels.names))
    fewer = tuple(name for name, count in zip(texts.labels.names, counts, strict=True) if 0 < count < 2 * max(shots))
    zero_shot = points.pop((ZERO_SHOT, 0))
    means = {count: float(np.mean(found)) for count, found in counted.items()}
    return Curve(tuple(points.values()), zero_shot, seeds, tuple(measured), fewer, means)
