"""Several labels for one image: each is judged on its own, against prompts that name nothing and background labels.

A model that was trained with a softmax gives logits without a zero: they say which label is likelier, not whether one
is there. Here a label's logit is taken less the logarithm of the summed exponentials of what stands for "not this": the
templates filled with words for anything, and the background labels. A slope and an offset, which `zeroshot calibrate
--multi-label` fits on labelled images, make a probability of that (Platt, "Probabilistic Outputs for Support Vector
Machines" (1999)). Models that were trained with a sigmoid have that zero, and are not changed but by the fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .answers import Answers
from .classifier import TextRows, build_classifier
from .encoder import Encoder, Features
from .enums import Score
from .errors import UsageError
from .features.pipeline import Block
from .prompts.labels import Label, LabelSet
from .prompts.template_sets import TemplateSet
from .scoring import Classifier, Decision, Floats

NEUTRAL = Label("thing", ("object", "something"), background=True)
"""What the templates are filled with to name nothing."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges each label on its own.

    Attributes:
        rows: The classifier of all labels, background ones and the neutral one among them.
        classifier: Of the labels that can be answers; its logits are those that are given to it.
        slope: What a label's logit less those of "not this" is multiplied by; above 0.
        offset: What is added after that.
    """

    rows: Classifier
    classifier: Classifier
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
            own = own - np.logaddexp.reduce(every[:, against], axis=1, keepdims=True)
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
    rows = build_classifier(
        encoder,
        answers if trained else LabelSet((*labels.labels, NEUTRAL)),
        templates,
        Score.SIGMOID if trained else Score.SOFTMAX,
        cache,
    )
    kept = [index for index, label in enumerate(rows.labels.labels) if not label.background]
    return Judge(rows, replace(rows, weights=rows.weights[kept], labels=answers, score=Score.SIGMOID))
