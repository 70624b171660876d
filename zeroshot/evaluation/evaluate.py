"""Measure a classifier on labelled images.

Images are encoded once; any number of classifiers of the same model can then be measured on the features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..encoder import Encoder, Features
from ..enums import Score
from ..errors import InputError
from ..features.pipeline import Pipeline, encode_blocks
from ..messages import count_of
from ..results import Failure, Manifest
from ..scoring import Classifier
from . import metrics, statistics
from .grouped_answers import AnswerColumns
from .labelled_folders import Dataset
from .metrics import Indices
from .statistics import Doubles, Estimate

TOP = 5
BLOCK = 4096
"""Images scored together: bounds the ``(n_images, n_labels)`` matrix, whatever the data set."""


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """The images of a data set that could be read, as features.

    Attributes:
        features: Unit rows, shape ``(n_images, dim)``.
        paths: Their paths.
        targets: Their label indices, shape ``(n_images,)``.
        failures: The images that could not be read; they count in no metric.
    """

    features: Features
    paths: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    failures: tuple[Failure, ...]

    def subset(self, rows: Indices) -> EncodedDataset:
        """Return some of the images, given by index, in that order."""
        paths = tuple(self.paths[row] for row in rows)
        return EncodedDataset(self.features[rows], paths, self.targets[rows], self.failures)

    def rename(self, names: Mapping[str, str]) -> EncodedDataset:
        """Return the same under other names, for the paths that have one."""
        failures = tuple(Failure(names.get(failure.path, failure.path), failure.error) for failure in self.failures)
        return replace(self, paths=tuple(names.get(path, path) for path in self.paths), failures=failures)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers of a run, each with its interval where one is known.

    Attributes:
        top1: Share of images whose best label is right.
        top5: Share of images with the right label among the best five.
        mean_recall: Mean of the recalls of the labels that have images.
        mean_f1: Mean of their F1 scores.
        ece: Expected calibration error in [0, 1].
        nll: Mean negative log-likelihood of the right label, in nats; with a sigmoid, of all yes and no together.
        brier: Mean Brier score, in [0, 2] for a softmax.
        aurc: Area under the risk-coverage curve in [0, 1].
    """

    top1: Estimate
    top5: Estimate
    mean_recall: Estimate
    mean_f1: Estimate
    ece: Estimate
    nll: Estimate
    brier: Estimate
    aurc: Estimate


@dataclass(frozen=True, slots=True)
class LabelResult:
    """One label's results; shares are in [0, 1], or None where nothing is counted.

    Attributes:
        label: Its name.
        key: The folder's name or the table's spelling.
        support: Its images.
        recall: Share of its images that were given it.
        precision: Share of the images given it that are its own.
        f1: Harmonic mean of the two.
    """

    label: str
    key: str
    support: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A classifier's results on a dataset. Labels are its answers here: a group is one, a background label none.

    Each image counts with its best answer, also where a background label is above it (`outdone`), as with a threshold.

    Attributes:
        metrics: The numbers.
        per_label: Every label's counts.
        confusion: Counts ``[target, predicted]``, shape ``(n_labels, n_labels)``.
        confused: The commonest mistakes: target, predicted, images.
        ranking: Best label indices of each image, shape ``(n_images, min(5, n_labels))``.
        probabilities: Their probabilities, same shape, float64.
        target_probabilities: Probability of each image's true label, shape ``(n_images,)``.
        reliability: Confidence against accuracy.
        risk: Share of errors against share of images answered.
        outdone: Where a background label is above the best answer, shape ``(n_images,)``.
        data: The images that were measured; targets are answers.
        classifier: What measured them.
        logits: Of all images, where they are not the classifier's, shape ``(n_images, n_labels)``.
    """

    metrics: Metrics
    per_label: tuple[LabelResult, ...]
    confusion: Indices
    confused: tuple[tuple[str, str, int], ...]
    ranking: Indices
    probabilities: Doubles
    target_probabilities: Doubles
    reliability: tuple[statistics.Bin, ...]
    risk: tuple[statistics.RiskPoint, ...]
    outdone: statistics.Booleans
    data: EncodedDataset
    classifier: Classifier
    logits: npt.NDArray[np.floating] | None = None

    def probabilities_of(self, rows: Sequence[int]) -> npt.NDArray[np.floating]:
        """Return the probabilities of every label for some images, shape ``(n_rows, n_labels)``."""
        features = self.data.features[list(rows)]
        given = self.classifier.scores(features).logits if self.logits is None else self.logits[list(rows)]
        columns = AnswerColumns.of(self.classifier, self.classifier.labels.names)
        logs = statistics.log_softmax if self.classifier.score is Score.SOFTMAX else statistics.log_sigmoid
        return np.exp(logs(columns.logits(given)))[:, : len(columns.names)]

    @property
    def right(self) -> statistics.Booleans:
        """Whether each image's best label is the true one, shape ``(n_images,)``."""
        return np.asarray(self.ranking[:, 0] == self.data.targets)


@dataclass(frozen=True, slots=True)
class Run:
    """One classifier's evaluation with its manifest, and the probability below which the answer is "unknown"."""

    result: Evaluation
    manifest: Manifest
    threshold: float | None = None

    @property
    def answering(self) -> statistics.Answering | None:
        """What the threshold leaves of the answers; None without one."""
        if self.threshold is None:
            return None
        sure = np.where(self.result.outdone, -1.0, self.result.probabilities[:, 0])
        return statistics.measure_answering(sure, self.result.right, self.threshold)


def encode_dataset(
    encoder: Encoder, dataset: Dataset, pipeline: Pipeline, on_progress: Callable[[int], None] = lambda _: None
) -> EncodedDataset:
    """Encode every image of a data set.

    Args:
        encoder: The model.
        dataset: Paths and targets.
        pipeline: How they are read.
        on_progress: Called with the number of inputs finished since the last call.

    Raises:
        InputError: Not one image could be read.
    """
    rows: list[Features] = []
    readable: list[int] = []
    failures: list[Failure] = []
    position = 0
    for block in encode_blocks(encoder, dataset.paths, pipeline):
        failures += [Failure(block.paths[place], error) for place, error in sorted(block.errors.items())]
        readable += [position + place for place in range(len(block.paths)) if place not in block.errors]
        rows.append(block.features)
        position += len(block.paths)
        on_progress(len(block.paths))
    if not readable:
        raise InputError(
            f"none of {count_of(position, 'image')} could be read: {failures[0].path}: {failures[0].error}",
            "check the images; relative paths in a table (--targets) are taken beside it",
        )
    paths = tuple(dataset.paths[index] for index in readable)
    return EncodedDataset(np.concatenate(rows), paths, dataset.targets[readable], tuple(failures))


def evaluate(
    data: EncodedDataset,
    classifier: Classifier,
    keys: tuple[str, ...],
    logits: npt.NDArray[np.floating] | None = None,
) -> Evaluation:
    """Score a classifier's answers on encoded images.

    Args:
        data: Features and targets; targets index the classifier's labels.
        classifier: Built for the model that made the features.
        keys: The folder or table spelling of each label.
        logits: Shape ``(n_images, n_labels)``, where they are not the classifier's but, say, those of folds.
    """
    columns = AnswerColumns.of(classifier, keys)
    data = replace(data, targets=columns.targets(data.targets))
    blocks = []
    for start in range(0, len(data.features), BLOCK):
        rows = slice(start, start + BLOCK)
        scored = classifier.scores(data.features[rows]).logits if logits is None else logits[rows]
        blocks.append(_score(scored, data.targets[rows], classifier.score, columns))
    ranking = np.concatenate([block.ranking for block in blocks])
    probabilities = np.concatenate([block.probabilities for block in blocks])
    right = np.asarray(ranking[:, 0] == data.targets)
    names, keys = columns.names, columns.keys
    confusion = metrics.confusion_matrix(ranking[:, 0], data.targets, len(names))
    per_label = tuple(_label_result(confusion, index, names[index], keys[index]) for index in range(len(names)))
    reliability = statistics.reliability(probabilities[:, 0], right)
    risk = statistics.risk_coverage(probabilities[:, 0], right)
    n = len(right)
    return Evaluation(
        metrics=Metrics(
            top1=statistics.wilson(int(right.sum()), n),
            top5=statistics.wilson(int((ranking == data.targets[:, None]).any(axis=1).sum()), n),
            mean_recall=statistics.mean_recall_interval(confusion.diagonal(), confusion.sum(axis=1)),
            mean_f1=Estimate(float(np.mean([label.f1 for label in per_label if label.support]))),
            ece=Estimate(statistics.calibration_error(reliability)),
            nll=statistics.mean_interval(np.concatenate([block.losses for block in blocks])),
            brier=statistics.mean_interval(np.concatenate([block.briers for block in blocks])),
            aurc=Estimate(statistics.area_under_risk(risk)),
        ),
        per_label=per_label,
        confusion=confusion,
        confused=tuple(metrics.most_confused(confusion, names, 10)),
        ranking=ranking,
        probabilities=probabilities,
        target_probabilities=np.concatenate([block.of_target for block in blocks]),
        reliability=reliability,
        risk=risk,
        outdone=np.concatenate([block.outdone for block in blocks]),
        data=data,
        classifier=classifier,
        logits=logits,
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Some images' scores, without the full matrix: see `Evaluation` for the shapes."""

    ranking: Indices
    probabilities: Doubles
    of_target: Doubles
    losses: Doubles
    briers: Doubles
    outdone: statistics.Booleans


def _score(every: npt.NDArray[np.floating], targets: Indices, score: Score, columns: AnswerColumns) -> _Block:
    """Score some images, in float64 from the logits on: float32 rounds confident probabilities to ties at 1."""
    logits = columns.logits(every)
    ranking = np.argsort(-logits[:, : len(columns.names)], axis=1, kind="stable")[:, :TOP].astype(np.int64)
    logs = statistics.log_softmax(logits) if score is Score.SOFTMAX else statistics.log_sigmoid(logits)
    probabilities = np.exp(logs)
    column = targets[:, None]
    return _Block(
        ranking,
        np.take_along_axis(probabilities, ranking, axis=1),
        np.take_along_axis(probabilities, column, axis=1)[:, 0],
        losses(logits, targets, score),
        statistics.brier(probabilities, targets),
        columns.outdone(every, logits),
    )


def losses(logits: npt.NDArray[np.floating], targets: Indices, score: Score) -> Doubles:
    """Return each image's negative log-likelihood in nats, shape ``(n_images,)``.

    With a softmax it is that of the true label; with a sigmoid every label is a yes or no of its own, and theirs
    are summed.

    Args:
        logits: Shape ``(n_images, n_labels)``.
        targets: True label indices.
        score: How logits become probabilities.
    """
    column = targets[:, None]
    if score is Score.SOFTMAX:
        return -np.take_along_axis(statistics.log_softmax(logits), column, axis=1)[:, 0]
    # log(1 - sigmoid(x)) = log sigmoid(-x) = log sigmoid(x) - x
    every_no = -(statistics.log_sigmoid(logits) - logits).sum(axis=1)
    return np.asarray(every_no - np.take_along_axis(logits, column, axis=1)[:, 0].astype(np.float64), dtype=np.float64)


def _label_result(confusion: Indices, index: int, name: str, key: str) -> LabelResult:
    right, support, given = int(confusion[index, index]), int(confusion[index].sum()), int(confusion[:, index].sum())
    return LabelResult(
        name,
        key,
        support,
        recall=right / support if support else None,
        precision=right / given if given else None,
        f1=2 * right / (support + given) if support + given else None,
    )
