"""Image features and weights give probabilities, and those give answers: softmax or sigmoid, groups, ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .encoder import EncoderSpec, Features, Score, check_rows
from .errors import UsageError
from .features.pipeline import Block
from .prompts.labels import LabelSet
from .prompts.template_sets import TemplateSet
from .result_columns import Answers
from .results import Ranked

Floats = npt.NDArray[np.float32]

_MOST_SCORES = 2**20
"""Scores that are ranked together, unless one image has more."""

_MOST_ROWS = 4096
"""Images that are scored together: in float64 their features take up to 32 MB."""


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
        several: An image has every label whose probability reaches the threshold, not the best alone.
    """

    top_k: int = 5
    threshold: float = 0.0
    alone: bool = False
    several: bool = False


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
            image_features: Unit rows, shape ``(n_images, dim)``; multiplied in float64 and rounded to float32 after
                that, since the order in which a matrix product adds depends on the place and number of the rows.
            alone: Sum each product by itself, as slow as that is: without it one value in some hundred million may
                lie so near the middle of two float32 numbers that its last digit depends on the other rows.

        Raises:
            InputError: The rows are of another shape.
        """
        return self.from_similarities(self.similarities(image_features, alone=alone))

    def similarities(self, image_features: Features, *, alone: bool = False) -> Floats:
        """Return the cosines of images to every label, shape ``(n_images, n_labels)``; arguments as in `scores`."""
        check_rows(image_features, self.weights.shape[1], "image_features")
        # BLAS adds in an order that depends on the number of rows; in double precision float32 does not show it.
        rows = np.asarray(image_features, dtype=np.float32).astype(np.float64)
        weights = self.weights.astype(np.float64)
        product = np.einsum("nd,ld->nl", rows, weights) if alone else rows @ weights.T
        return np.asarray(product, dtype=np.float32)

    def from_similarities(self, similarities: Floats) -> Scores:
        """Score images whose cosines to every label are known, shape ``(n_images, n_labels)``."""
        logits = np.float32(self.logit_scale) * similarities + np.float32(self.logit_bias)
        if self.shifts is not None:
            logits += self.shifts
        return self._from_logits(similarities, logits)

    def _from_logits(self, similarities: Floats, logits: Floats) -> Scores:
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
        everything = Block([""] * len(image_features), image_features, {}, (len(image_features),))
        return list(self.answer(everything, decision).predicted())

    def answer(self, block: Block, decision: Decision, given: Floats | None = None) -> Answers:
        """Choose and rank as `decide`, for many batches at once.

        Args:
            block: Images as features.
            decision: What of the scores becomes an answer.
            given: Logits that take the place of the classifier's, shape ``(n_read, n_labels)``; similarities stay.
        """
        rows = block.features
        n, kept = len(rows), len(self.labels.answers)
        if not decision.several:  # of several labels any may be one of an image's
            kept = min(decision.top_k, kept)
        order = np.empty((n, kept), dtype=np.intp)
        probabilities, similarities, logits = (np.empty((n, kept), dtype=np.float32) for _ in range(3))
        backgrounds: dict[int, Ranked] = {}
        most = min(_MOST_ROWS, max(1, _MOST_SCORES // len(self.labels.labels)))
        for start in range(0, n, most):
            part = slice(start, start + most)
            similar = self.similarities(rows[part], alone=decision.alone)
            scores = self.from_similarities(similar) if given is None else self._from_logits(similar, given[part])
            answers = self.answers(scores)
            # Logits break ties among probabilities that float32 rounds to 1 or 0.
            order[part] = np.lexsort((-answers.logits, -answers.probabilities), axis=-1)[:, :kept]
            for column, values in (
                (probabilities, answers.probabilities),
                (similarities, answers.similarities),
                (logits, answers.logits),
            ):
                column[part] = np.take_along_axis(values, order[part], axis=1)
            backgrounds |= self._outdone(scores, probabilities[part, 0], start)
        n_labels = (probabilities.astype(np.float64) >= decision.threshold).sum(axis=1) if decision.several else None
        known = probabilities[:, 0].astype(np.float64) >= decision.threshold
        known[list(backgrounds)] = False
        names = [name for name, _ in self.labels.answers]
        columns = (order, probabilities, similarities, logits, known, backgrounds, n_labels)
        return Answers(block.paths, block.errors, names, *columns)

    def _outdone(self, scores: Scores, best: Floats, start: int) -> dict[int, Ranked]:
        """Return the background label that is above the best answer, by row, rows counted from `start`."""
        background = [index for index, label in enumerate(self.labels.labels) if label.background]
        if not background:
            return {}
        likeliest = np.take(background, scores.probabilities[:, background].argmax(axis=1))
        above = np.take_along_axis(scores.probabilities, likeliest[:, None], axis=1)[:, 0] > best
        return {
            start + row: _ranked(self.labels.labels[likeliest[row]].name, scores, row, likeliest[row])
            for row in np.flatnonzero(above).tolist()
        }


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
