"""Sort images by words: zero-shot image classification with CLIP models.

The calls below are those that the command line makes. Nothing is imported before it is used, so that
``import zeroshot`` is quick; torch only when a model is loaded into it.

    >>> import zeroshot
    >>> encoder = zeroshot.load_encoder("tiny")
    >>> labels, templates = zeroshot.parse_labels("cat,coffee,bridge"), zeroshot.load_templates("general")
    >>> classifier = zeroshot.build_classifier(encoder, labels, templates)
    >>> for record in zeroshot.classify_paths(encoder, classifier, zeroshot.find_images(["examples"])):
    ...     print(record)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .classifier import Classifier, Decision, build_classifier, classify_paths
    from .encoder import Encoder, EncoderSpec, Preprocessing
    from .engines.choose import load_encoder
    from .errors import ZeroshotError
    from .evaluation.datasets import Dataset, load_folder, load_targets
    from .evaluation.evaluate import EncodedDataset, Evaluation, encode_dataset
    from .evaluation.evaluate import evaluate as evaluate_dataset
    from .features.pipeline import Pipeline
    from .images.paths import find_images
    from .prompts.labels import Label, LabelSet, load_labels, parse_labels
    from .prompts.template_sets import TemplateSet, load_templates
    from .results import Failure, Prediction, Ranked, Record

_HOMES = {
    "Classifier": "classifier",
    "Dataset": "evaluation.datasets",
    "Decision": "classifier",
    "EncodedDataset": "evaluation.evaluate",
    "Encoder": "encoder",
    "EncoderSpec": "encoder",
    "Evaluation": "evaluation.evaluate",
    "Failure": "results",
    "Label": "prompts.labels",
    "LabelSet": "prompts.labels",
    "Pipeline": "features.pipeline",
    "Prediction": "results",
    "Preprocessing": "encoder",
    "Ranked": "results",
    "Record": "results",
    "TemplateSet": "prompts.template_sets",
    "ZeroshotError": "errors",
    "build_classifier": "classifier",
    "classify_paths": "classifier",
    "encode_dataset": "evaluation.evaluate",
    "evaluate_dataset": "evaluation.evaluate:evaluate",  # here its name has to say what is evaluated
    "find_images": "images.paths",
    "load_encoder": "engines.choose",
    "load_folder": "evaluation.datasets",
    "load_labels": "prompts.labels",
    "load_targets": "evaluation.datasets",
    "load_templates": "prompts.template_sets",
    "parse_labels": "prompts.labels",
}

__all__ = [
    "Classifier",
    "Dataset",
    "Decision",
    "EncodedDataset",
    "Encoder",
    "EncoderSpec",
    "Evaluation",
    "Failure",
    "Label",
    "LabelSet",
    "Pipeline",
    "Prediction",
    "Preprocessing",
    "Ranked",
    "Record",
    "TemplateSet",
    "ZeroshotError",
    "build_classifier",
    "classify_paths",
    "encode_dataset",
    "evaluate_dataset",
    "find_images",
    "load_encoder",
    "load_folder",
    "load_labels",
    "load_targets",
    "load_templates",
    "parse_labels",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
