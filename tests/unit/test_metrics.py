"""Metrics, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zeroshot.evaluation import metrics

# Six images of three labels; what was ranked first, second, third.
TARGETS = np.array([0, 0, 0, 1, 1, 2])
RANKING = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2]])
CONFUSION = np.array([[2, 1, 0], [0, 1, 1], [0, 1, 0]])


def test_confusion() -> None:
    """Rows are targets, columns predictions."""
    assert metrics.confusion_matrix(RANKING[:, 0], TARGETS, 3).tolist() == CONFUSION.tolist()
    assert metrics.confusion_matrix(RANKING[:0, 0], TARGETS[:0], 2).tolist() == [[0, 0], [0, 0]]


def test_recall() -> None:
    """Recall divides by the row; the mean of the recalls weighs labels alike."""
    assert metrics.recall_per_label(CONFUSION).tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert metrics.mean_recall(CONFUSION) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_labels_without_images() -> None:
    """A label without images has no recall and is not in the mean."""
    counts = np.array([[3, 0], [0, 0]])
    assert math.isnan(metrics.recall_per_label(counts)[1])
    assert metrics.mean_recall(counts) == 1


def test_most_confused() -> None:
    """The commonest mistakes come first, ties in label order, right answers and absent mistakes never."""
    names = ("a", "b", "c")
    assert metrics.most_confused(CONFUSION, names, 2) == [("a", "b", 1), ("b", "c", 1)]
    assert metrics.most_confused(np.array([[9, 1, 0], [0, 9, 4], [2, 0, 9]]), names, 9) == [
        ("b", "c", 4),
        ("c", "a", 2),
        ("a", "b", 1),
    ]
    assert metrics.most_confused(np.diag([5, 5, 5]), names, 9) == []
