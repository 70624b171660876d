"""Compare two runs over the same images.

Two accuracies measured on the same images are not independent: only the images on which the runs differ say
which is better. Two numbers whose intervals overlap can still differ significantly.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..enums import Precision
from ..errors import InputError
from ..messages import count_of
from . import statistics
from .eval_file import Answer, RunFile
from .evaluate import Run
from .statistics import Booleans, Estimate

_MOST_EXACT_FIRST = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)

SIGNIFICANT = 0.05
"""Above this p-value no difference is claimed."""


@dataclass(frozen=True, slots=True)
class Paired:
    """One share of two runs over the same images.

    Attributes:
        first: Of the first run.
        second: Of the second run.
        difference: Second less first, with its bootstrap interval.
        only_first: Images that only the first run has right.
        only_second: Images that only the second run has right.
        p: Of McNemar's exact test.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One label's images in both runs: how many there are, and how many each run has right."""

    label: str
    key: str
    support: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from the first run to the second.

    Attributes:
        n_images: Images in both runs.
        top1: The share of right answers.
        top5: The share of images with the true label among the best five.
        gained: Images that only the second run has right: first and second answer.
        lost: Images that only the first run has right.
        swapped: Images that both have wrong, differently.
        labels: Labels whose number of right answers changed, the most gained first.
        notes: What was left out or differs between the runs, one line each.
    """

    n_images: int
    top1: Paired
    top5: Paired
    gained: tuple[tuple[Answer, Answer], ...]
    lost: tuple[tuple[Answer, Answer], ...]
    swapped: tuple[tuple[Answer, Answer], ...]
    labels: tuple[LabelChange, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The finding in plain words: ``B is better by 1.8 points (0.6 to 3.1), p = 0.004``."""
        return verdict(self.top1)


def verdict(paired: Paired, first: str = "A", second: str = "B") -> str:
    """Return a finding in plain words.

    Args:
        paired: The two shares.
        first: What to call the first run.
        second: What to call the second run.
    """
    if not paired.only_first and not paired.only_second:
        return f"no difference shown: {first} and {second} have the same images right"
    difference = paired.difference
    low, high = 100 * (difference.low or 0.0), 100 * (difference.high or 0.0)
    p = "p < 0.001" if paired.p < 0.001 else f"p = {paired.p:.3f}"
    if paired.p >= SIGNIFICANT:
        points = f"{100 * difference.value:+.1f} points ({low:.1f} to {high:.1f})"
        # The bootstrap of few changed images is too narrow: the exact test decides.
        p = f"but {p} by the exact test, which decides" if low > 0 or high < 0 else p
        return f"no difference shown: {second} − {first} is {points}, {p}"
    if difference.value < 0:
        return f"{first} is better by {-100 * difference.value:.1f} points ({-high:.1f} to {-low:.1f}), {p}"
    return f"{second} is better by {100 * difference.value:.1f} points ({low:.1f} to {high:.1f}), {p}"


def pair(first: Booleans, second: Booleans) -> Paired:
    """Compare two runs' right and wrong answers over the same images.

    Args:
        first: Whether each image is right in the first run, shape ``(n_images,)``.
        second: The same for the second run, in the same order.
    """
    n = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return Paired(
        statistics.wilson(int(first.sum()), n),
        statistics.wilson(int(second.sum()), n),
        statistics.paired_difference(only_first, only_second, n),
        only_first,
        only_second,
        statistics.mcnemar(only_first, only_second),
    )


@dataclass(frozen=True, slots=True)
class PrecisionChange:
    """What a lower precision changes for a model and a template set, on the images that both could read.

    Attributes:
        model: The model as the user named it.
        prompts: The template set's name.
        reference: The more exact precision.
        precision: The other one.
        n_images: Images that were compared.
        same_label: Those that both give the same label.
        top1: The share of right answers, the more exact precision first.
    """

    model: str
    prompts: str
    reference: Precision
    precision: Precision
    n_images: int
    same_label: int
    top1: Paired

    @property
    def sentence(self) -> str:
        """The finding in plain words, as of `verdict`."""
        return verdict(self.top1, self.reference, self.precision)


def compare_precisions(runs: Sequence[Run]) -> list[PrecisionChange]:
    """Compare runs that differ in nothing but the precision, each with the most exact of its model and template set."""
    exact = {precision: place for place, precision in enumerate(_MOST_EXACT_FIRST)}
    alike: dict[tuple[str, ...], list[tuple[Precision, Run]]] = {}
    for run in runs:
        facts = run.manifest.model
        key = (facts["model"], facts["pretrained"], facts["weights_sha256"], run.manifest.prompts["name"])
        alike.setdefault(key, []).append((Precision(facts["precision"]), run))
    changes = []
    for (model, _, _, prompts), group in alike.items():
        (reference, base), *others = sorted(group, key=lambda item: exact[item[0]])
        for precision, run in others:
            if precision is reference:  # asked for twice, by itself and as `auto`
                continue
            place = {path: row for row, path in enumerate(run.result.data.paths)}
            rows = [(row, place[path]) for row, path in enumerate(base.result.data.paths) if path in place]
            if not rows:
                continue
            first, second = np.asarray(rows, dtype=np.intp).T
            same = base.result.ranking[first, 0] == run.result.ranking[second, 0]
            paired = pair(base.result.right[first], run.result.right[second])
            changes.append(PrecisionChange(model, prompts, reference, precision, len(rows), int(same.sum()), paired))
    return changes


def compare(first: RunFile, second: RunFile) -> Comparison:
    """Compare two runs image by image.

    Raises:
        InputError: They have no image in common, or disagree on what the images show.
    """
    one, other = first.answers, second.answers
    common = [key for key in one if key in other]
    if not common:  # a folder, and a table that lies beside it
        one, other = _by_path(first), _by_path(second)
        common = [key for key in one if key in other]
    if not common:
        raise InputError(
            f"{first.source} and {second.source} have no image in common: neither below the folders or beside the"
            " tables that the runs were given, nor by whole paths",
            "run eval for both with the same folder or table",
        )
    pairs = [(one[key], other[key]) for key in common]
    if disagreeing := [(a, b) for a, b in pairs if a.key != b.key]:
        a, b = disagreeing[0]
        raise InputError(
            f"{count_of(len(disagreeing), 'image')} with another true label in each run: {a.path}: {a.key}, {b.key}",
            "run eval for both with the same folder or table, and the same labels, groups and --label-names",
        )
    changed = [(a, b) for a, b in pairs if a.label != b.label or a.right != b.right]
    return Comparison(
        n_images=len(common),
        top1=pair(_flags(a.right for a, _ in pairs), _flags(b.right for _, b in pairs)),
        top5=pair(_flags(a.right5 for a, _ in pairs), _flags(b.right5 for _, b in pairs)),
        gained=tuple((a, b) for a, b in changed if b.right and not a.right),
        lost=tuple((a, b) for a, b in changed if a.right and not b.right),
        swapped=tuple((a, b) for a, b in changed if not a.right and not b.right),
        labels=_label_changes(pairs),
        notes=tuple(_notes(first, second, len(common))),
    )


def _by_path(run: RunFile) -> dict[str, Answer]:
    return {os.path.normpath(answer.path): answer for answer in run.answers.values()}


def _flags(values: Any) -> Booleans:
    return np.fromiter(values, dtype=np.bool_)


def _label_changes(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[LabelChange, ...]:
    support = Counter(a.key for a, _ in pairs)
    before = Counter(a.key for a, _ in pairs if a.right)
    after = Counter(b.key for _, b in pairs if b.right)
    names = {a.key: a.target for a, _ in pairs}
    changes = [
        LabelChange(names[key], key, support[key], before[key], after[key])
        for key in support
        if before[key] != after[key]
    ]
    return tuple(sorted(changes, key=lambda change: (change.first - change.second, change.label)))


def _notes(first: RunFile, second: RunFile, common: int) -> list[str]:
    notes = [
        f"{count_of(len(run.answers) - common, 'image')} only in {run.source}, left out"
        for run in (first, second)
        if len(run.answers) > common
    ]
    if os.path.normpath(first.root) != os.path.normpath(second.root) and first.root and second.root:
        notes.append(
            f"the runs were given {first.root} and {second.root}: images of the same path below them count as the same"
        )
    if set(first.keys) != set(second.keys):
        notes.append("the runs chose among different labels: fewer labels make an easier task")
    return notes
