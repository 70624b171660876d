"""Measure a classifier on labelled pictures.

Pictures are encoded once; any number of classifiers of the same model can then be measured on the features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import metrics
from .classifier import Classifier
from .classify import Pipeline, encode_batches
from .datasets import Dataset
from .encoder import Encoder, Features
from .errors import InputError
from .results import Failure

TOP = 5


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """The pictures of a data set that could be read, as features.

    Attributes:
        features: Unit rows, shape ``(n_images, dim)``.
        paths: Their paths.
        targets: Their label indices, shape ``(n_images,)``.
        failures: The pictures that could not be read; they count in no metric.
    """

    features: Features
    paths: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class LabelResult:
    """How one label fared: its pictures, and recall and precision in [0, 1] or None where nothing is counted."""

    label: str
    key: str
    count: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a classifier scored.

    Attributes:
        top1: Share of pictures whose best label is right.
        top5: Share of pictures with the right label among the best five.
        mean_recall: Mean over labels of their recall.
        per_label: Every label's counts.
        confusion: Counts ``[target, predicted]``, shape ``(n_labels, n_labels)``.
        confused: The commonest mistakes: target, predicted, pictures.
        ranking: Best label indices of each picture, shape ``(n_images, min(5, n_labels))``.
        probabilities: Their probabilities, same shape.
        data: The pictures that were measured.
    """

    top1: float
    top5: float
    mean_recall: float
    per_label: tuple[LabelResult, ...]
    confusion: metrics.Indices
    confused: tuple[tuple[str, str, int], ...]
    ranking: metrics.Indices
    probabilities: npt.NDArray[np.float32]
    data: EncodedDataset


def encode_dataset(
    encoder: Encoder, dataset: Dataset, pipeline: Pipeline, on_progress: Callable[[int], None] = lambda _: None
) -> EncodedDataset:
    """Encode every picture of a data set.

    Args:
        encoder: The model.
        dataset: Paths and targets.
        pipeline: How they are read.
        on_progress: Called with the number of inputs finished since the last call.

    Raises:
        InputError: Not one picture could be read.
    """
    rows: list[Features] = []
    readable: list[int] = []
    failures: list[Failure] = []
    position = 0
    for batch in encode_batches(encoder, dataset.paths, pipeline):
        for item in batch:
            if item.features is None:
                failures.append(Failure(item.path, item.error))
            else:
                rows.append(item.features)
                readable.append(position)
            position += 1
        on_progress(len(batch))
    if not rows:
        raise InputError(f"none of the {position} pictures could be read: {failures[0].path}: {failures[0].error}", "check the folder")
    paths = tuple(dataset.paths[index] for index in readable)
    return EncodedDataset(np.stack(rows), paths, dataset.targets[readable], tuple(failures))


def evaluate(data: EncodedDataset, classifier: Classifier, keys: tuple[str, ...]) -> Evaluation:
    """Score a classifier on encoded pictures.

    Args:
        data: Features and targets; targets index the classifier's labels.
        classifier: Built for the model that made the features.
        keys: The folder or table spelling of each label.
    """
    n_labels = len(classifier.labels.labels)
    k = min(TOP, n_labels)
    rankings: list[metrics.Indices] = []
    tops: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(data.features), 4096):  # bounds the (n_images, n_labels) matrix, whatever the data set
        scores = classifier.scores(data.features[start : start + 4096])
        # Logits, not probabilities: float32 rounds confident probabilities to ties.
        order = np.argsort(-scores.logits, axis=1, kind="stable")[:, :k]
        rankings.append(order.astype(np.int64))
        tops.append(np.take_along_axis(scores.probabilities, order, axis=1))
    ranking = np.concatenate(rankings)
    confusion = metrics.confusion_matrix(ranking[:, 0], data.targets, n_labels)
    recalls, precisions = metrics.recall_per_label(confusion), metrics.precision_per_label(confusion)
    names = classifier.labels.names
    return Evaluation(
        top1=metrics.accuracy_at(ranking, data.targets, 1),
        top5=metrics.accuracy_at(ranking, data.targets, TOP),
        mean_recall=metrics.mean_recall(confusion),
        per_label=tuple(
            LabelResult(names[i], keys[i], int(confusion[i].sum()), _or_none(recalls[i]), _or_none(precisions[i]))
            for i in range(n_labels)
        ),
        confusion=confusion,
        confused=tuple(metrics.most_confused(confusion, names, 10)),
        ranking=ranking,
        probabilities=np.concatenate(tops),
        data=data,
    )


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
