"""Learn from labelled images, and say by folds whether it helped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..encoder import Features
from ..learn.regression import Problem
from ..learn.strength import STRENGTHS, Learned, learn
from ..prompts.labels import LabelSet
from ..scoring import Classifier
from . import compare
from .evaluate import EncodedDataset, Evaluation, evaluate


@dataclass(frozen=True, slots=True)
class Learning:
    """Learned weights beside the texts alone, on the same images.

    Attributes:
        learned: The weights, and what chose them.
        classifier: The classifier with them; of the texts alone where the examples did not help.
        before: Every example, by the texts alone, those of labels whose words are not used too.
        after: Every example, by the folds that did not see it; None where none could be left out.
        paired: The two compared, image by image.
        contradictions: Pairs of examples that are copies of each other and have different labels.
    """

    learned: Learned
    classifier: Classifier
    before: Evaluation
    after: Evaluation | None
    paired: compare.Paired | None
    contradictions: tuple[tuple[str, str], ...]

    @property
    def texts_alone(self) -> bool:
        """Whether the examples were not used, because the texts alone gave the lowest loss."""
        return bool(np.isinf(self.learned.strength))

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        if self.paired is None:
            return "no label has two examples: whether they help cannot be measured, since none can be left out"
        if self.texts_alone:
            return "the examples did not help: the texts alone are kept"
        return compare.verdict(self.paired, "the texts alone", "what was learned")

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against using it, in one line each."""
        if self.paired is None or self.paired.p >= compare.SIGNIFICANT or self.paired.difference.value >= 0:
            return ()
        return (f"the examples made it worse: {self.sentence}",)


def learn_from(
    data: EncodedDataset,
    texts: Classifier,
    keys: tuple[str, ...],
    wordless: tuple[int, ...] = (),
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Learning:
    """Refine a classifier's weights by examples, and measure that by folds.

    Args:
        data: The examples.
        texts: The classifier of the texts alone; its rows are what the weights are drawn to.
        keys: The folder or table spelling of each label.
        wordless: Labels whose names mean nothing to the model; what the texts say of them is not used.
        seed: Decides the folds.
        on_progress: Called with the number of fits finished since the last call.
    """
    named, texts = texts, without_words(texts, wordless)
    # The texts alone know nothing of a label without words: with one, they are no choice.
    strengths = tuple(strength for strength in STRENGTHS if np.isfinite(strength) or not wordless)
    problem = Problem(data.features, data.targets, texts.weights, texts.logit_scale)
    learned = learn(problem, seed, strengths, on_progress)
    # Each label is looked at, those of a group too.
    labels = LabelSet(tuple(replace(label, background=False) for label in texts.labels.labels))
    before = evaluate(data, replace(named, labels=labels), keys)
    after = None
    if learned.logits is not None:
        after = evaluate(data, replace(texts, labels=labels), keys, learned.logits)
    paired = None if after is None else compare.pair(before.right, after.right)
    classifier = replace(texts, weights=learned.weights)
    return Learning(learned, classifier, before, after, paired, _contradictions(data, learned))


def without_words(classifier: Classifier, wordless: tuple[int, ...]) -> Classifier:
    """Return the classifier with rows for labels whose names mean nothing to the model.

    Such a label is drawn to the mean of the other labels' rows: to no label in particular, and yet to what texts have
    in common. Without any other label it is drawn to zero.

    Args:
        classifier: Of the texts.
        wordless: Their indices.
    """
    if not wordless:
        return classifier
    others = np.setdiff1d(np.arange(len(classifier.weights)), wordless)
    weights = classifier.weights.copy()
    weights[list(wordless)] = classifier.weights[others].mean(axis=0) if len(others) else 0.0
    return replace(classifier, weights=np.asarray(weights, dtype=np.float32))


def _contradictions(data: EncodedDataset, learned: Learned) -> tuple[tuple[str, str], ...]:
    first_of: dict[int, int] = {}
    found = []
    for row, group in enumerate(learned.groups):
        first = first_of.setdefault(int(group), row)
        if data.targets[first] != data.targets[row]:
            found.append((data.paths[first], data.paths[row]))
    return tuple(found)


def hash_examples(features: Features) -> tuple[str, ...]:
    """Return a hash of each image's features: what was learned from is recognised when it is measured on."""
    return tuple(hashlib.sha256(np.asarray(row, dtype="<f4").tobytes()).hexdigest()[:16] for row in features)
