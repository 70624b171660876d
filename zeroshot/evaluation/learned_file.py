"""Learned weights on disk, and the check that they belong to the run that wants to use them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..encoder import EncoderSpec, Features
from ..enums import Score
from ..errors import InputError
from ..prompts.labels import Label, LabelSet
from ..prompts.template_sets import TemplateSet
from ..results import Manifest
from ..scoring import Classifier, choose_score
from .fitted_identity import Identity, describe_difference, identify, read_identity, read_number
from .learning import Learning, hash_examples

LEARNED_FORMAT = "zeroshot-learned"
VERSION = 1

_AGAIN = "run `zeroshot learn` again"


@dataclass(frozen=True, slots=True)
class LearnedFile:
    """Learned weights with what they belong to.

    Attributes:
        source: The file that they were read from.
        fitted: What they are valid for.
        labels: The labels of the rows.
        templates: The template set of the texts that they are drawn to.
        weights: Shape ``(n_labels, dim)``.
        strength: Of the pull to the texts; infinity for the texts alone.
        length: What the texts' rows were multiplied by.
        keys: The folder or table spelling of each label; empty where the file does not tell them apart.
        without_words: Labels that were learned from examples alone.
        examples: A hash of each example's features.
        pretrained: The weight tag of the model, where its name alone does not say which weights.
    """

    source: str
    fitted: Identity
    labels: LabelSet
    templates: TemplateSet
    weights: Features
    strength: float
    length: float
    keys: tuple[str, ...]
    without_words: tuple[str, ...]
    examples: frozenset[str]
    pretrained: str | None = None

    def build(
        self,
        spec: EncoderSpec,
        labels: LabelSet | None = None,
        templates: TemplateSet | None = None,
        score: Score | None = None,
    ) -> Classifier:
        """Return the classifier for a run's model, labels and templates; no text is encoded for it.

        Args:
            spec: The loaded model's facts.
            labels: The run's labels in any order; the file's unless given.
            templates: The run's templates; the file's unless given.
            score: How logits become probabilities.

        Raises:
            InputError: The weights were learned for something else; the message says for what.
        """
        labels, templates = labels or self.labels, templates or self.templates
        chosen = choose_score(score, spec, labels)
        present = identify(
            spec, Classifier(self.weights, labels, templates, spec.logit_scale, spec.logit_bias or 0.0, chosen)
        )
        if difference := describe_difference(self.fitted, present):
            raise InputError(
                f"{self.source} was learned for {difference}",
                "run `zeroshot learn` for this run's model, prompts and labels",
            )
        rows = self.weights[_order(self.labels, labels)]
        return Classifier(
            rows,
            labels,
            templates,
            spec.logit_scale,
            spec.logit_bias or 0.0,
            chosen,
            learned=hash_weights(rows, labels),
        )

    def count_examples(self, features: Features) -> int:
        """Return how many of some images were learned from."""
        return sum(name in self.examples for name in hash_examples(features))

    def manifest(self) -> dict[str, Any]:
        """Return what decided the weights as plain data for a manifest's options."""
        return {
            "source": self.source,
            "weights_sha256": hash_weights(self.weights, self.labels),
            "strength": _finite(self.strength),
            "length": self.length,
            "without_words": list(self.without_words),
            "examples": len(self.examples),
        }


def hash_weights(weights: Features, labels: LabelSet) -> str:
    """Return a hash of rows and their labels that does not depend on the labels' order."""
    rows = sorted(
        (_spell(label), row.astype("<f4").tobytes().hex()) for label, row in zip(labels.labels, weights, strict=True)
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def to_document(
    result: Learning, spec: EncoderSpec, without_words: tuple[str, ...], keys: tuple[str, ...], manifest: Manifest
) -> dict[str, Any]:
    """Return learned weights as the plain data of a file.

    Args:
        result: The weights, and what they do.
        spec: The model's facts.
        without_words: Labels that were learned from examples alone.
        keys: The folder or table spelling of each label.
        manifest: What else decided them.
    """
    classifier, learned = result.classifier, result.learned
    rows = np.asarray(classifier.weights, dtype="<f4")
    identity = identify(spec, classifier)
    counts = np.bincount(result.before.data.targets, minlength=len(keys))
    return {
        "format": LEARNED_FORMAT,
        "version": VERSION,
        "fitted_for": asdict(identity) | {"labels": list(identity.labels)},
        "strength": _finite(learned.strength),
        "length": learned.length,
        "tried": [
            {"strength": _finite(strength), "length": length, "nll": loss} for strength, length, loss in learned.losses
        ],
        "texts_alone": result.texts_alone,
        "without_words": list(without_words),
        "examples": {
            "images": len(result.before.data.paths),
            "per_label": {key: int(count) for key, count in zip(keys, counts, strict=True)},
            "features": list(hash_examples(result.before.data.features)),
        },
        "folds": _folds(result),
        "weights": {
            "shape": list(rows.shape),
            "sha256": hash_weights(rows, classifier.labels),
            "base64": base64.b64encode(rows.tobytes()).decode("ascii"),
        },
        "manifest": asdict(manifest),
    }


def _folds(result: Learning) -> dict[str, Any] | None:
    before, after, paired = result.before, result.after, result.paired
    if after is None or paired is None:
        return None
    numbers = ("top1", "mean_recall", "ece", "nll", "brier")
    return {
        "texts_alone": {name: asdict(getattr(before.metrics, name)) for name in numbers},
        "learned": {name: asdict(getattr(after.metrics, name)) for name in numbers},
        "difference": asdict(paired.difference),
        "p": paired.p,
        "per_label": [
            {
                "key": one.key,
                "label": one.label,
                "images": one.support,
                "texts_alone": one.recall,
                "learned": other.recall,
            }
            for one, other in zip(before.per_label, after.per_label, strict=True)
        ],
    }


def load_learned(path: str | Path) -> LearnedFile:
    """Read a file of learned weights.

    Args:
        path: What ``zeroshot learn`` wrote.

    Raises:
        InputError: It cannot be read, is something else, or is damaged.
    """
    return parse_learned(read_learned_document(path), str(path))


def read_learned_document(path: str | Path) -> dict[str, Any]:
    """Return the plain data of a file of learned weights.

    Raises:
        InputError: It cannot be read, or is no JSON object.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "`zeroshot learn DIR` writes one") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON", "give the file that `zeroshot learn` wrote") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no learned weights", "give the file that `zeroshot learn` wrote")
    return document


def parse_learned(document: dict[str, Any], source: str) -> LearnedFile:
    """Read learned weights from plain data.

    Args:
        document: What ``zeroshot learn`` wrote.
        source: Where it came from, for messages and manifests.

    Raises:
        InputError: It is something else, or is damaged.
    """
    if document.get("format") != LEARNED_FORMAT:
        raise InputError(f"{source} holds no learned weights", "give the file that `zeroshot learn` wrote")
    if document.get("version") != VERSION:
        raise InputError(f"{source} has version {document.get('version')!r}, this zeroshot reads {VERSION}", _AGAIN)
    try:
        return _parse(document, source)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{source} is damaged: {type(error).__name__} {error}", _AGAIN) from error


def _parse(document: dict[str, Any], source: str) -> LearnedFile:
    manifest, entry, packed = document["manifest"], document["fitted_for"], document["weights"]
    labels = _parse_labels(manifest["labels"])
    prompts = manifest["prompts"]
    templates = TemplateSet(prompts["name"], tuple(prompts["templates"]))
    n_labels, dim = packed["shape"]
    content = base64.b64decode(packed["base64"], validate=True)
    weights = np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(n_labels, dim)
    if hash_weights(weights, labels) != packed["sha256"] or not np.isfinite(weights).all():
        raise ValueError("the weights are not those that were written")
    keys = tuple(map(str, document["examples"]["per_label"]))
    strength, length = document["strength"], read_number(document.get("length", 1.0))  # earlier files have no length
    if strength is not None and not 0 < read_number(strength) < float("inf"):
        raise ValueError(f"a strength of {strength}")
    if not 0 <= length <= 1:
        raise ValueError(f"a length of {length}")
    return LearnedFile(
        source=source,
        fitted=read_identity(entry),
        labels=labels,
        templates=templates,
        weights=weights,
        strength=float("inf") if strength is None else float(strength),
        length=length,
        keys=keys if len(keys) == len(labels.labels) else (),
        without_words=tuple(document["without_words"]),
        examples=frozenset(document["examples"]["features"]),
        pretrained=_read_tag(manifest["model"]),
    )


def _read_tag(model: dict[str, Any]) -> str | None:
    """Return the weight tag of an architecture; of an alias, folder or repository none is needed."""
    tag = model.get("pretrained") if model.get("model") == model.get("architecture") else None
    return str(tag) if tag else None


def _parse_labels(entry: dict[str, Any]) -> LabelSet:
    labels = tuple(
        Label(str(one["name"]), tuple(one["aliases"]), tuple(one["prompts"]), bool(one["background"]))
        for one in entry["labels"]
    )
    index_of = {label.name: index for index, label in enumerate(labels)}
    groups = tuple(
        (str(name), tuple(index_of[member] for member in members)) for name, members in entry["groups"].items()
    )
    return LabelSet(labels, groups)


def _order(stored: LabelSet, wanted: LabelSet) -> list[int]:
    """Return the row of each wanted label; of equal ones the first for the first."""
    rows: dict[str, list[int]] = {}
    for index, label in enumerate(stored.labels):
        rows.setdefault(_spell(label), []).append(index)
    return [rows[_spell(label)].pop(0) for label in wanted.labels]


def _spell(label: Label) -> str:
    return json.dumps(asdict(label), sort_keys=True)


def _finite(strength: float) -> float | None:
    """Return a strength as JSON has it, which knows no infinity: None stands for the texts alone."""
    return None if np.isinf(strength) else strength
