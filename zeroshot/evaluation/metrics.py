"""Metrics of a labelled run: plain arithmetic on indices and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def confusion_matrix(predicted: Indices, targets: Indices, n_labels: int) -> Indices:
    """Count predictions: entry ``[target, predicted]``, shape ``(n_labels, n_labels)``."""
    counts = np.zeros((n_labels, n_labels), dtype=np.int64)
    np.add.at(counts, (targets, predicted), 1)
    return counts


def recall_per_label(confusion: Indices) -> npt.NDArray[np.float64]:
    """Return the share of each label's images that were given it; NaN for a label without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(confusion.diagonal() / confusion.sum(axis=1), dtype=np.float64)


def mean_recall(confusion: Indices) -> float:
    """Return the mean of the recalls over the labels that have images."""
    return float(np.nanmean(recall_per_label(confusion)))


def most_confused(confusion: Indices, names: Sequence[str], count: int) -> list[tuple[str, str, int]]:
    """Return the commonest mistakes as (target, predicted, images), most first, ties in label order."""
    return [(names[i], names[j], n) for i, j, n in confused_pairs(confusion, count)]


def confused_pairs(confusion: Indices, count: int) -> list[tuple[int, int, int]]:
    """Return the commonest mistakes as (target index, predicted index, images), most first, ties in label order."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = [divmod(int(flat), len(confusion)) for flat in order]
    return [(i, j, int(mistakes[i, j])) for i, j in pairs if mistakes[i, j]]
