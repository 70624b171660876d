"""How template sets answer on images whose labels nobody gave: do they agree, and how sure are they?

None of these numbers is accuracy. Beside the sets stand sets of random words and letters after the label, as in Roth et
al., "Waffling around for Performance: Visual Classification with Random Words and Broad Concepts" (2023), arXiv
2306.07282: what they reach as well is no merit of a set's wording.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..classifier import TextRows, build_classifier
from ..encoder import Encoder, Features
from ..models import open_clip_tables
from ..prompts.labels import LabelSet
from ..prompts.template_sets import TemplateSet
from . import statistics
from .evaluate import BLOCK

RANDOM_SETS, RANDOM_TEMPLATES = 5, 16
"""Sets of random words that the others stand beside, and templates in each: half of them words, half letters."""


@dataclass(frozen=True, slots=True)
class SetScore:
    """How one template set answers.

    Attributes:
        name: Of the set.
        templates: How many it has.
        agreement: Share of images whose answer is that of most other sets, in [0, 1]; of ties, the first label's.
        margin: Mean difference of the two highest probabilities, in [0, 1]; 1 where there is one answer.
        entropy: Mean entropy of the probabilities over its maximum, in [0, 1]; 0 where there is one answer.
        answers: The index of each image's best answer, as in ``LabelSet.answers``, shape ``(n_images,)``.
        random: Whether its words are random.
    """

    name: str
    templates: int
    agreement: float
    margin: float
    entropy: float
    answers: npt.NDArray[np.int64]
    random: bool


def random_sets(count: int = RANDOM_SETS, seed: int = 0) -> list[TemplateSet]:
    """Return sets whose templates end in random words or letters; the same seed gives the same sets."""
    generator = np.random.default_rng(seed)
    names = " ".join(open_clip_tables.imagenet_names().values()).lower()
    words = sorted({word for word in names.split() if len(word) > 3 and word.isalpha()})
    sets = []
    for index in range(count):
        templates = []
        for place in range(RANDOM_TEMPLATES):
            pair = [
                words[generator.integers(len(words))]
                if place < RANDOM_TEMPLATES // 2
                else "".join(generator.choice(list(string.ascii_lowercase), size=generator.integers(4, 9)))
                for _ in range(2)
            ]
            templates.append(f"a photo of a {{}}, which has {pair[0]}, {pair[1]}.")
        sets.append(TemplateSet(f"random words {index + 1}", tuple(dict.fromkeys(templates))))
    return sets


def score_sets(
    encoder: Encoder,
    labels: LabelSet,
    sets: Sequence[TemplateSet],
    features: Features,
    cache: TextRows | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[SetScore]:
    """Return how each set answers, and random words beside them, in the order given.

    Groups are summed, and probabilities are those among the answers: background labels have no part in them.

    Args:
        encoder: For the texts.
        labels: What is asked about.
        sets: Two different template sets or more: one has no others to agree with.
        features: Of the images, unit rows, shape ``(n_images, dim)``.
        cache: Where rows of texts are kept.
        on_progress: Called with the number of sets finished since the last call; there are `RANDOM_SETS` more.

    Raises:
        LabelError: A label cannot be read by the model.
    """
    everything = [*sets, *random_sets()]
    answers = np.zeros((len(everything), len(features)), dtype=np.int64)
    votes = np.zeros((len(features), len(labels.answers)), dtype=np.int32)
    surenesses = []
    for place, templates in enumerate(everything):
        classifier = build_classifier(encoder, labels, templates, None, cache)
        margin = entropy = 0.0
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            logs = statistics.log_softmax(classifier.answers(classifier.scores(features[rows])).logits)
            answers[place, rows] = logs.argmax(axis=1)
            found = sureness(logs)
            margin, entropy = margin + float(found[0].sum()), entropy + float(found[1].sum())
        surenesses.append((margin / len(features), entropy / len(features)))
        if place < len(sets):
            votes[np.arange(len(features)), answers[place]] += 1
        on_progress(1)
    scores = []
    for place, templates in enumerate(everything):
        others = votes.copy()
        if place < len(sets):
            others[np.arange(len(features)), answers[place]] -= 1
        agreement = float((others.argmax(axis=1) == answers[place]).mean())
        margin, entropy = surenesses[place]
        random = place >= len(sets)
        n_templates = len(templates.templates)
        scores.append(SetScore(templates.name, n_templates, agreement, margin, entropy, answers[place], random))
    return scores


def sureness(logs: statistics.Doubles) -> tuple[statistics.Doubles, statistics.Doubles]:
    """Return margin and normalised entropy of each row of log-probabilities, each of shape ``(n_images,)``."""
    if logs.shape[1] == 1:
        return np.ones(len(logs)), np.zeros(len(logs))
    best = np.exp(np.partition(logs, -2, axis=1)[:, -2:])
    entropy = -(np.exp(logs) * logs).sum(axis=1) / np.log(logs.shape[1])
    return np.asarray(best[:, 1] - best[:, 0]), np.asarray(entropy)
