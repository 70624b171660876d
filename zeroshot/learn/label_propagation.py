"""Mixes each image's probabilities with those of its nearest neighbours (``--neighbours``).

Label propagation over the graph of nearest neighbours (Zhou, Bousquet, Lal, Weston and Schölkopf, "Learning with Local
and Global Consistency" (2003); for classifiers made of texts: Kalantidis, Tolias and others, "Label Propagation for
Zero-shot Classification with Vision-Language Models" (2024), arXiv 2404.04072). The solution is that of
``F = (1 - a) P + a W F``, where ``P`` are an image's own probabilities and row ``i`` of ``W`` is the mean over the
nearest neighbours of image ``i``. Rows of ``F`` sum to 1 as those of ``P`` do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..encoder import Features
from ..enums import Score
from ..errors import InputError, UsageError
from ..scoring import Classifier, Floats, softmax
from ..system.memory import available_memory

NEAREST = 10
"""Neighbours of an image."""

SHARE = 0.5
"""Of an image's probabilities, the part that comes from its neighbours."""

_ENOUGH = 1e-7
_MOST_ROUNDS = 100
_CELLS = 2**23
"""Cosines that are held at a time."""
_GROUP = 64
"""Images whose nearest is looked at first: most of them need no further look."""
_COLUMNS = 16
"""Labels that are propagated together: bounds the copies of the probabilities."""

Rows = npt.NDArray[np.int32]


def propagate(classifier: Classifier, features: Features) -> Floats:
    """Return the logits of images after each was mixed with its neighbours, shape ``(n_images, n_labels)``.

    Their softmax are the mixed probabilities, and their scale is that of the image's own logits. Memory is that of a
    few numbers per image besides the result.

    Args:
        classifier: With learned weights, calibration and shares, where there are some.
        features: Unit rows of all images, shape ``(n_images, dim)``.

    Raises:
        InputError: The probabilities do not fit into memory.
        UsageError: They are sigmoids.
    """
    if classifier.score is Score.SIGMOID:
        raise UsageError("--neighbours mixes probabilities that sum to 1", "leave out --score sigmoid")
    check_fits(len(features), len(classifier.weights))
    nearest = find_nearest(features)
    mixed = np.empty((len(features), len(classifier.weights)), dtype=np.float32)
    sums = np.empty((len(features), 1), dtype=np.float32)
    step = max(1, _CELLS // mixed.shape[1])
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        logits = classifier.scores(features[rows]).logits
        top = logits.max(axis=1, keepdims=True)
        sums[rows] = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        mixed[rows] = softmax(logits)
    for start in range(0, mixed.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        mixed[:, columns] = spread(mixed[:, columns], nearest)
    np.log(np.maximum(mixed, np.finfo(np.float32).tiny, out=mixed), out=mixed)
    mixed += sums
    return mixed


def spread(probabilities: npt.NDArray[np.floating], nearest: Rows, share: float = SHARE) -> Floats:
    """Return the solution of ``F = (1 - share) P + share W F``, in the shape of the probabilities.

    Each round of the iteration that ``F`` is the fixed point of halves the error (at a share of a half).

    Args:
        probabilities: Of each image, shape ``(n_images, n_labels)``.
        nearest: Its neighbours, shape ``(n_images, n_nearest)``; of an image without any nothing changes.
        share: In [0, 1).
    """
    own = np.ascontiguousarray(probabilities, dtype=np.float32)
    if not nearest.shape[1]:
        return own
    mixed = own.copy()
    for _ in range(_MOST_ROUNDS):
        of_others = np.zeros_like(own)
        for column in nearest.T:
            of_others += mixed[column]
        of_others *= share / nearest.shape[1]
        of_others += (1 - share) * own
        moved = float(np.abs(of_others - mixed).max(initial=0.0))
        mixed = of_others
        if moved < _ENOUGH:
            break
    return mixed


def find_nearest(features: Features, n_nearest: int = NEAREST) -> Rows:
    """Return each image's nearest others by cosine, in no order, shape ``(n_images, min(n_nearest, n_images - 1))``.

    All pairs are compared, a block of rows at a time; of a block only the groups of columns are searched whose best is
    among the best of all groups, which is exact.

    Args:
        features: Unit rows, shape ``(n_images, dim)``.
        n_nearest: How many.
    """
    n_images = len(features)
    kept = min(n_nearest, n_images - 1)
    nearest = np.empty((n_images, max(kept, 0)), dtype=np.int32)
    n_groups = -(-n_images // _GROUP)
    padded = np.zeros((n_groups * _GROUP, features.shape[1]), dtype=np.float32)
    padded[:n_images] = features
    step = max(1, _CELLS // len(padded)) if kept > 0 else n_images + 1
    for start in range(0, n_images if kept > 0 else 0, step):
        block = padded[start : min(start + step, n_images)]
        cosines = block @ padded.T
        cosines[:, n_images:] = -np.inf
        cosines[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf  # itself
        grouped = cosines.reshape(len(block), n_groups, _GROUP)
        columns = np.arange(_GROUP)
        if n_groups > kept:
            groups = np.argpartition(-grouped.max(axis=2), kept - 1, axis=1)[:, :kept]
            places = (groups[:, :, None] * _GROUP + columns).reshape(len(block), -1)
            cosines = np.take_along_axis(cosines, places, axis=1)
        else:
            places = np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape)
        best = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
        nearest[start : start + step] = np.take_along_axis(places, best, axis=1)
    return nearest


def check_fits(n_images: int, n_labels: int) -> None:
    """Refuse probabilities that do not fit into half of the memory at hand.

    Raises:
        InputError: They do not.
    """
    needed, available = 4 * n_images * n_labels, available_memory()
    if available is not None and needed > available // 2:
        raise InputError(
            f"--neighbours keeps a probability for each of {n_images} images and {n_labels} labels,"
            f" {needed / 1e9:.1f} GB: more than half of the memory at hand",
            "classify the folder in parts, or leave out --neighbours",
        )
