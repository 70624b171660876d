"""Image features and weights give probabilities, and those give answers: softmax or sigmoid, groups, ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .encoder import EncoderSpec, Features, Score, check_rows
from .errors import UsageError
from .prompts.labels import LabelSet
from .prompts.template_sets import TemplateSet
from .results import Ranked

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a batch of images for each label.

    Attributes:
        similarities: Cosines, shape ``(n_images, n_labels)``.
        logits: Scaled similarities plus bias, same shape, float32.
        probabilities: In [0, 1], same shape, float32.
    """

    similarities: Floats
    logits: Floats
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Decision:
    """When a probability becomes an answer.

    Attributes:
        top_k: How many of the best answers a record lists.
        threshold: Below this probability the label is None: "unknown".
        alone: Each image is scored by itself, so that no last digit depends on which images stand beside it.
    """

    top_k: int = 5
    threshold: float = 0.0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Classifier:
    """A linear classifier whose rows are averaged text features.

    Attributes:
        weights: Shape ``(n_labels, dim)``; unit rows, unless they were learned from examples.
        labels: What the rows stand for.
        templates: What they were built with.
        logit_scale: What similarities are multiplied by.
        logit_bias: What is added; it cancels in a softmax and matters in a sigmoid.
        score: How logits become probabilities.
        warnings: What a user should know about these labels, one line each.
        learned: Hash of weights that were learned from examples; empty for those of the texts alone.
        shifts: Added to each label's logit, shape ``(n_labels,)``: the logarithm of its share of the images over an
            equal share; None where no shares are assumed.
    """

    weights: Features
    labels: LabelSet
    templates: TemplateSet
    logit_scale: float
    logit_bias: float
    score: Score
    warnings: tuple[str, ...] = ()
    learned: str = ""
    shifts: Floats | None = None

    def scores(self, image_features: Features, *, alone: bool = False) -> Scores:
        """Score images against every label.

        Args:
            image_features: Unit rows, shape ``(n_images, dim)``; cast to float32 before the product, since half
                precision would merge many different cosines into one.
            alone: Sum each product by itself, as slow as that is: a matrix product's last digit depends on the place
                and number of the rows.

        Raises:
            InputError: The rows are of another shape.
        """
        check_rows(image_features, self.weights.shape[1], "image_features")
        rows = np.asarray(image_features, dtype=np.float32)
        # einsum adds up each pair by itself; BLAS blocks rows by their number, which moves the last digit.
        return self.from_similarities(np.einsum("nd,ld->nl", rows, self.weights) if alone else rows @ self.weights.T)

    def from_similarities(self, similarities: Floats) -> Scores:
        """Score images whose cosines to every label are known, shape ``(n_images, n_labels)``."""
        logits = np.float32(self.logit_scale) * similarities + np.float32(self.logit_bias)
        if self.shifts is not None:
            logits += self.shifts
        probabilities = softmax(logits) if self.score is Score.SOFTMAX else sigmoid(logits)
        return Scores(similarities, logits, probabilities)

    def answers(self, scores: Scores) -> Scores:
        """Sum groups and drop background labels: one column for each of ``labels.answers``.

        Returns:
            Columns as in ``labels.answers``. A group's similarity is its nearest member's, its logit the
            logarithm of the summed exponentials (so that it orders as the summed probabilities do).
        """
        members = [list(indices) for _, indices in self.labels.answers]
        if all(len(indices) == 1 for indices in members):
            kept = [indices[0] for indices in members]
            if len(kept) == len(self.labels.labels):
                return scores
            return Scores(scores.similarities[:, kept], scores.logits[:, kept], scores.probabilities[:, kept])
        return Scores(
            np.stack([scores.similarities[:, indices].max(axis=1) for indices in members], axis=1),
            np.stack([np.logaddexp.reduce(scores.logits[:, indices], axis=1) for indices in members], axis=1),
            np.stack([scores.probabilities[:, indices].sum(axis=1) for indices in members], axis=1),
        )

    def decide(
        self, image_features: Features, decision: Decision
    ) -> list[tuple[str | None, tuple[Ranked, ...], Ranked | None]]:
        """Choose each image's answer, and rank the answers.

        Returns:
            For each image its label, None for "unknown" (below the threshold, or a background label comes out on
            top), its best answers, best first (ties in label order), and the background label that is above them, if
            one is.
        """
        scores = self.scores(image_features, alone=decision.alone)
        answers = self.answers(scores)
        background = [index for index, label in enumerate(self.labels.labels) if label.background]
        names = [name for name, _ in self.labels.answers]
        decided: list[tuple[str | None, tuple[Ranked, ...], Ranked | None]] = []
        for row, probabilities in enumerate(answers.probabilities):
            # Logits break ties among probabilities that float32 rounds to 1 or 0.
            order = np.lexsort((-answers.logits[row], -probabilities))[: decision.top_k]
            top = tuple(_ranked(names[i], answers, row, i) for i in order)
            likeliest = max(background, key=lambda index: scores.probabilities[row, index], default=None)
            outdone = None
            if likeliest is not None and scores.probabilities[row, likeliest] > top[0].probability:
                outdone = _ranked(self.labels.labels[likeliest].name, scores, row, likeliest)
            known = outdone is None and top[0].probability >= decision.threshold
            decided.append((top[0].label if known else None, top, outdone))
        return decided


def _ranked(name: str, scores: Scores, row: int, column: int) -> Ranked:
    numbers = (scores.probabilities, scores.similarities, scores.logits)
    return Ranked(name, *(float(values[row, column]) for values in numbers))


def softmax(logits: Floats) -> Floats:
    """Turn each row of ``(n_images, n_labels)`` logits into probabilities that sum to 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float32)


def sigmoid(logits: Floats) -> Floats:
    """Turn each logit into a probability of its own, without overflow at either end."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1 / (1 + small), small / (1 + small)), dtype=np.float32)


def choose_score(asked: Score | None, spec: EncoderSpec, labels: LabelSet) -> Score:
    """Return how probabilities are made: as asked, else softmax.

    Raises:
        UsageError: A sigmoid of a model that was trained with a softmax means nothing; nor do summed sigmoids.
    """
    if asked is Score.SIGMOID:
        if spec.score is not Score.SIGMOID:
            raise UsageError(
                f"--score sigmoid: {spec.model} was trained with a softmax, its logits have no zero",
                "use --score softmax, or a model trained with a sigmoid such as ViT-B-16-SigLIP",
            )
        if labels.groups:
            raise UsageError(
                "--score sigmoid: groups sum probabilities, and sigmoid ones do not add up to one",
                "use --score softmax, or remove the groups",
            )
    return asked or Score.SOFTMAX
