"""Several labels for one image: each is judged on its own, against everyday words and background labels.

A model that was trained with a softmax gives logits without a zero: they say which label is likelier, not whether one
is there. Here a label's logit is taken less the logarithm of the summed exponentials of what stands for "not this": the
first template filled with everyday words, the label's own left out, and the background labels. A slope and an offset,
which `zeroshot calibrate --multi-label` fits on labelled images, make a probability of that (Platt, "Probabilistic
Outputs for Support Vector Machines" (1999)). Models that were trained with a sigmoid have that zero, and are not
changed but by the fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .classifier import TextRows, build_classifier
from .encoder import Encoder, Features
from .enums import Score
from .errors import UsageError
from .features.pipeline import Block
from .prompts.labels import Label, LabelSet, normalise
from .prompts.template_sets import TemplateSet
from .result_columns import Answers
from .scoring import Classifier, Decision, Floats

EVERYDAY = (
    *("person", "man", "woman", "child", "face", "crowd", "animal", "dog", "cat", "bird", "fish", "horse", "insect"),
    *("plant", "tree", "flower", "grass", "leaf", "fruit", "food", "drink", "dish", "cup", "bottle", "car", "truck"),
    *("bus", "bicycle", "motorcycle", "train", "airplane", "boat", "road", "street", "building", "house", "room"),
    *("kitchen", "bedroom", "furniture", "chair", "table", "sofa", "bed", "lamp", "door", "window", "wall", "floor"),
    *("sky", "cloud", "sea", "beach", "river", "lake", "mountain", "forest", "field", "snow", "desert", "garden"),
    *("city", "bridge", "sign", "text", "document", "screen", "computer", "phone", "book", "paper", "pen", "clock"),
    *("watch", "bag", "shoe", "shirt", "hat", "dress", "toy", "ball", "tool", "machine", "musical instrument"),
    *("guitar", "weapon", "jewel", "coin", "stone", "metal", "wood", "glass", "plastic", "fabric", "pattern"),
    *("texture", "drawing", "painting", "logo", "night", "light"),
)
"""What photographs show: a label is there where it says more of the image than these do."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges each label on its own.

    Attributes:
        rows: The classifier of all labels, background ones and everyday words among them.
        classifier: Of the labels that can be answers; its logits are those that are given to it.
        same: Of each answer, the rows of everyday words that it is itself; it is not judged against those.
        slope: What a label's logit less those of "not this" is multiplied by; above 0.
        offset: What is added after that.
    """

    rows: Classifier
    classifier: Classifier
    same: tuple[tuple[int, ...], ...]
    slope: float = 1.0
    offset: float = 0.0

    def logits(self, features: Features, *, alone: bool = False) -> Floats:
        """Return each label's logit, whose sigmoid is its probability, shape ``(n_images, n_answers)``.

        Args:
            features: Unit rows, shape ``(n_images, dim)``.
            alone: As in `Classifier.scores`.
        """
        every = self.rows.scores(features, alone=alone).logits
        against = np.asarray([label.background for label in self.rows.labels.labels])
        own = every[:, ~against]
        if against.any():
            common = np.logaddexp.reduce(every[:, against], axis=1)
            for answer, same in enumerate(self.same):
                rest = against.copy()
                rest[list(same)] = False
                own[:, answer] -= np.logaddexp.reduce(every[:, rest], axis=1) if same else common
        return np.asarray(self.slope * own + self.offset, dtype=np.float32)

    def answers(self, blocks: Iterable[Block], decision: Decision) -> Iterator[Answers]:
        """Yield the answers for images: the labels from the threshold on, best first."""
        for block in blocks:
            yield self.classifier.answer(block, decision, self.logits(block.features, alone=decision.alone))

    def manifest(self) -> dict[str, Any]:
        """Return how labels are judged as plain data for a manifest's options."""
        against = [label for label in self.rows.labels.labels if label.background]
        return {"against": [word for label in against for word in label.words]}


def build_judge(encoder: Encoder, labels: LabelSet, templates: TemplateSet, cache: TextRows | None = None) -> Judge:
    """Encode the labels and what they are judged against.

    Args:
        encoder: The model.
        labels: The labels; background ones stand for "not this".
        templates: What they are put into.
        cache: Where rows of texts are kept.

    Raises:
        LabelError: A label cannot be read by the model.
        UsageError: There are groups, whose probabilities would have to sum to one.
    """
    if labels.groups:
        raise UsageError("--multi-label: groups sum probabilities that compete", "remove the groups")
    # The zero of a model that was trained with a sigmoid is where it was trained to be.
    trained = encoder.spec.score is Score.SIGMOID
    answers = LabelSet(tuple(label for label in labels.labels if not label.background))
    every = answers if trained else _with_everyday(labels, templates)
    rows = build_classifier(
        encoder,
        every,
        templates,
        Score.SIGMOID if trained else Score.SOFTMAX,
        cache,
    )
    kept = [index for index, label in enumerate(rows.labels.labels) if not label.background]
    row_of = {normalise(label.name): row for row, label in enumerate(every.labels) if label.background}
    same = tuple(
        tuple(sorted({row_of[word] for word in map(normalise, label.words) if word in row_of}))
        for label in answers.labels
    )
    return Judge(rows, replace(rows, weights=rows.weights[kept], labels=answers, score=Score.SIGMOID), same)


def _with_everyday(labels: LabelSet, templates: TemplateSet) -> LabelSet:
    """Return the labels and a row for each everyday word that no background label has; one prompt says enough of it."""
    told = {normalise(word) for label in labels.labels if label.background for word in label.words}
    first = templates.templates[:1]
    words = (Label(word, prompts=first, background=True) for word in EVERYDAY if word not in told)
    return LabelSet((*labels.labels, *words))
