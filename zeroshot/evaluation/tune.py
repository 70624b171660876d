"""Choose templates on labelled images, and measure the choice on held-out images.

Greedy forward selection: begin with the template that is best alone, add the one that helps most, stop when none
helps. Only texts are encoded, each once; a trial is a matrix product. The choice looks better on the images that
it was made by than it is, so the number that counts comes from the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..encoder import Encoder, Features
from ..errors import PromptError
from ..prompts.template_sets import TemplateSet, check_templates, fill, list_names, load_templates
from ..scoring import Classifier
from . import compare
from .evaluate import BLOCK, EncodedDataset, Evaluation, evaluate, losses

_BATCH = 256


@dataclass(frozen=True, slots=True)
class AddedTemplate:
    """One template that was added, and the set's score on the fitting half after that.

    Attributes:
        template: The template.
        accuracy: Share of right answers, in [0, 1].
        loss: Mean negative log-likelihood, in nats; it decides between equal accuracies.
    """

    template: str
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """A chosen template set, and the one that it is compared with.

    Attributes:
        steps: The templates in the order they were chosen.
        chosen_on: Images in the half that they were chosen by.
        before: The starting set on the held-out half.
        after: The chosen set on the held-out half.
        paired: The two compared, image by image.
    """

    steps: tuple[AddedTemplate, ...]
    chosen_on: int
    before: Evaluation
    after: Evaluation
    paired: compare.Paired

    @property
    def templates(self) -> tuple[str, ...]:
        """The chosen templates."""
        return tuple(step.template for step in self.steps)

    @property
    def better(self) -> bool:
        """Whether the chosen set is shown to be better than the one it started from."""
        return self.paired.p < compare.SIGNIFICANT and self.paired.difference.value > 0

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        return compare.verdict(self.paired, "the starting set", "the chosen set")


def gather_candidates(start: TemplateSet, sources: Sequence[str]) -> tuple[str, ...]:
    """Return the templates to choose from: the starting set's and those of other sets, each once.

    Args:
        start: The set to start from.
        sources: Names or files of sets; empty for every shipped one.

    Raises:
        PromptError: A set cannot be used.
    """
    found = list(start.templates)
    for source in sources or list_names():
        found += load_templates(source).templates
    unique = tuple(dict.fromkeys(found))
    return check_templates(unique, "candidates")


def tune(
    encoder: Encoder,
    seen: EncodedDataset,
    held_out: EncodedDataset,
    start: Classifier,
    keys: tuple[str, ...],
    candidates: Sequence[str],
    max_templates: int = 10,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Tuning:
    """Choose templates on one half of the images and compare them with a set on the other.

    Args:
        encoder: For the texts.
        seen: The images to choose by.
        held_out: The images to measure on.
        start: The classifier of the set to start from.
        keys: The folder or table spelling of each label.
        candidates: Templates to choose from.
        max_templates: How many to choose at most.
        on_progress: Called with the number of candidates whose texts were encoded since the last call.

    Raises:
        PromptError: Every label has prompts of its own, so that no template is used.
    """
    sums = encode_candidates(encoder, start, candidates, on_progress)
    steps = select(seen, start, sums, candidates, max_templates)
    chosen = replace(start, weights=_weights(sums[[candidates.index(step.template) for step in steps]].sum(axis=0)))
    before, after = evaluate(held_out, start, keys), evaluate(held_out, chosen, keys)
    return Tuning(tuple(steps), len(seen.paths), before, after, compare.pair(before.right, after.right))


def encode_candidates(
    encoder: Encoder, start: Classifier, candidates: Sequence[str], on_progress: Callable[[int], None]
) -> Features:
    """Encode every label in every template.

    A label's row is the sum over its words; a label with prompts of its own has those in every template, since
    templates do not change it.

    Returns:
        Shape ``(n_templates, n_labels, dim)``; the sum over some templates, brought to unit length, is the
        classifier of these templates.
    """
    labels = start.labels.labels
    free = [index for index, label in enumerate(labels) if not label.prompts]
    if not free:
        raise PromptError("every label has prompts of its own, so no template is used", "remove some of them")
    sums = np.repeat(start.weights[None], len(candidates), axis=0)
    for place, template in enumerate(candidates):
        texts = [fill(template, word) for index in free for word in labels[index].words]
        rows = np.concatenate([encoder.encode_texts(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)])
        ends = np.cumsum([0, *(len(labels[index].words) for index in free)])
        sums[place, free] = np.add.reduceat(rows, ends[:-1], axis=0)
        # Aliases: the mean, so that a label weighs the same in every template whatever its number of words.
        sums[place, free] /= np.diff(ends)[:, None]
        on_progress(1)
    return sums


def select(
    seen: EncodedDataset, start: Classifier, sums: Features, candidates: Sequence[str], max_templates: int
) -> list[AddedTemplate]:
    """Choose templates one by one, each the one that helps most, until none helps.

    Args:
        seen: The images to choose by.
        start: Whose score and scale decide the loss.
        sums: From `encode_candidates`.
        candidates: The templates, in the same order.
        max_templates: How many at most.
    """
    steps: list[AddedTemplate] = []
    total = np.zeros_like(sums[0])
    left = list(range(len(candidates)))
    while left and len(steps) < max_templates:
        trials = []
        for index in left:
            accuracy, loss = _trial(seen, replace(start, weights=_weights(total + sums[index])))
            trials.append((-accuracy, loss, index))
        worst, loss, index = min(trials)
        # A tie in accuracy with a lower loss is an improvement: probabilities are part of the answer.
        if steps and (worst, loss) >= (-steps[-1].accuracy, steps[-1].loss):
            break
        steps.append(AddedTemplate(candidates[index], -worst, loss))
        total = total + sums[index]
        left.remove(index)
    return steps


def _trial(seen: EncodedDataset, classifier: Classifier) -> tuple[float, float]:
    right, loss = 0, 0.0
    for start in range(0, len(seen.features), BLOCK):
        targets = seen.targets[start : start + BLOCK]
        logits = classifier.scores(seen.features[start : start + BLOCK]).logits
        right += int((logits.argmax(axis=1) == targets).sum())
        loss += float(losses(logits, targets, classifier.score).sum())
    return right / len(seen.paths), loss / len(seen.paths)


def _weights(sums: Features) -> Features:
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(sums / lengths, dtype=np.float32)
