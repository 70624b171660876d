"""Labels and templates give a classifier's weights; encoded images and a classifier give records.

The ensemble is that of Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(2021), section 3.1.4: features of a label's prompts are normalised, averaged, and normalised again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from .encoder import Encoder, EncoderSpec, Features, Score, average
from .errors import ModelError
from .features.keys import hash_prompts, text_key
from .features.pipeline import Encoded, Pipeline, as_block, encode_blocks
from .prompts.labels import Label, LabelSet, as_labels
from .prompts.template_sets import DEFAULT, TemplateSet, as_templates, prompts_for
from .prompts.tokenizer_checks import check_control_tokens, check_encodable, check_prompts
from .results import Manifest, Record
from .scoring import Classifier, Decision, choose_score

_PROMPTS = 8192
"""Prompts that are encoded before their labels are kept: with 77 tokens each 5 MB of them, and 16 MB of features."""


class TextRows(Protocol):
    """Where labels' rows are kept: the feature cache, or anything that is asked alike."""

    def find_texts(self, model: bytes, contents: Sequence[bytes], dim: int, /) -> dict[bytes, Features]:
        """Return the rows that are kept, shape ``(dim,)`` each."""
        ...

    def add(self, model: bytes, name: str, rows: Iterable[tuple[bytes, Features]], /) -> None:
        """Keep rows."""
        ...


def build_classifier(
    encoder: Encoder,
    labels: LabelSet | str | Iterable[str | Label],
    templates: TemplateSet | str | Sequence[str] = DEFAULT,
    score: Score | None = None,
    cache: TextRows | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Classifier:
    """Encode every label's prompts and average them to the classifier's rows.

    Args:
        encoder: The model.
        labels: What the rows stand for: a set, ``"cat,dog"``, or a list of names or labels.
        templates: What a label without prompts of its own is put into: a set, its name, or a list of sentences.
        score: How logits become probabilities; None for softmax.
        cache: Where rows of the same model and prompts are looked up, and new ones kept.
        on_progress: Called with the number of labels that have their row since the last call.

    Raises:
        LabelError: Two labels are the same tokens after truncation, or a label holds a control token or no text.
        ModelError: The model gives no finite numbers.
        PromptError: A template or template set cannot be used.
        UsageError: The score does not fit the model.
    """
    labels, templates = as_labels(labels), as_templates(templates)
    chosen = choose_score(score, encoder.spec, labels)
    prompts = [prompts_for(label, templates) for label in labels.labels]
    check_control_tokens(encoder.spec, labels.labels)
    for group in prompts:
        check_encodable(group)
    weights = _encode_labels(encoder, prompts, cache, on_progress)
    spec = encoder.spec
    if not (np.isfinite(weights).all() and math.isfinite(spec.logit_scale) and math.isfinite(spec.logit_bias or 0.0)):
        raise ModelError(f"{spec.model} gives no finite numbers for these labels", "--precision fp32, or other weights")
    warnings = check_prompts(encoder, labels, prompts, weights)
    return Classifier(weights, labels, templates, spec.logit_scale, spec.logit_bias or 0.0, chosen, warnings)


def _encode_labels(
    encoder: Encoder, prompts: Sequence[tuple[str, ...]], cache: TextRows | None, on_progress: Callable[[int], None]
) -> Features:
    """Return each label's averaged row, shape ``(n_labels, dim)``; only what the cache does not know is encoded.

    Labels are encoded and kept some at a time, so that memory does not grow with them, and an interrupt loses few.
    """
    key, dim = text_key(encoder.spec), encoder.spec.dim
    names = [hash_prompts(group) for group in prompts]
    rows = dict(cache.find_texts(key, list(dict.fromkeys(names)), dim)) if cache else {}
    missing = {name: group for name, group in zip(names, prompts, strict=True) if name not in rows}
    on_progress(sum(name in rows for name in names))
    for part in _parts(missing):
        # A prompt that several labels share, or that repeats, is encoded once.
        unique = list(dict.fromkeys(prompt for _, group in part for prompt in group))
        row_of = {prompt: row for row, prompt in enumerate(unique)}
        features = encoder.encode_texts(unique)
        made = {name: average(features[[row_of[prompt] for prompt in group]]) for name, group in part}
        finite = [(name, row) for name, row in made.items() if np.isfinite(row).all()]
        if cache and finite:
            cache.add(key, encoder.spec.model, finite)
        rows |= made
        on_progress(len(part))
    return np.stack([rows[name] for name in names])


def _parts(labels: Mapping[bytes, tuple[str, ...]]) -> Iterator[list[tuple[bytes, tuple[str, ...]]]]:
    """Yield labels with their prompts, so many that a part has `_PROMPTS`, or one label that has more."""
    part: list[tuple[bytes, tuple[str, ...]]] = []
    count = 0
    for label in labels.items():
        part.append(label)
        count += len(label[1])
        if count >= _PROMPTS:
            yield part
            part, count = [], 0
    if part:
        yield part


def classify_paths(
    encoder: Encoder,
    classifier: Classifier,
    paths: Iterable[str],
    decision: Decision = Decision(),
    pipeline: Pipeline = Pipeline(),
) -> Iterator[Record]:
    """Yield exactly one record per path, in order, each as soon as its batch is encoded."""
    for block in encode_blocks(encoder, paths, pipeline):
        yield from classifier.answer(block, decision).records()


def build_records(classifier: Classifier, batch: list[Encoded], decision: Decision) -> list[Record]:
    """Turn encoded images into records, one each, in order."""
    return list(classifier.answer(as_block(batch, classifier.weights.shape[1]), decision).records())


def build_manifest(spec: EncoderSpec, classifier: Classifier, options: dict[str, Any]) -> Manifest:
    """Collect model, prompts, labels and options.

    Args:
        spec: The loaded model's facts.
        classifier: The labels, templates and score in use.
        options: What else changed the numbers (threshold, EXIF turning, ...).
    """
    return Manifest(
        model=asdict(spec) | {"fingerprint": spec.fingerprint},
        prompts=classifier.templates.manifest(),
        labels=classifier.labels.manifest(),
        options={"score": str(classifier.score), **options},
    )
