"""Divide examples into folds: every label spread evenly, copies of an image always together."""

from __future__ import annotations

import numpy as np

from ..encoder import Features
from .regression import Indices

NEARLY_SAME = 0.99
"""Cosine of two images' features from which they are taken for copies: what is learned from one answers the other."""

_BLOCK = 2048


def group_copies(features: Features, least: float = NEARLY_SAME) -> Indices:
    """Return for each image the first image that it is a copy of, itself where it is none, shape ``(n_images,)``.

    Copies of copies belong together: the groups are the connected parts of the graph of close pairs.

    Args:
        features: Unit rows, shape ``(n_images, dim)``.
        least: Cosine from which two images count as copies.
    """
    parent = np.arange(len(features))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for first, second in close_pairs(features, least):
        one, other = root(first), root(second)
        parent[max(one, other)] = min(one, other)
    return np.asarray([root(index) for index in range(len(features))], dtype=np.int64)


def close_pairs(features: Features, least: float) -> list[tuple[int, int]]:
    """Return the pairs of rows with at least a cosine, the smaller index first, in order.

    Args:
        features: Unit rows, shape ``(n_images, dim)``.
        least: In [-1, 1].
    """
    found: list[tuple[int, int]] = []
    for start in range(0, len(features), _BLOCK):
        rows = features[start : start + _BLOCK]
        for other in range(start, len(features), _BLOCK):
            near = np.argwhere(rows @ features[other : other + _BLOCK].T >= least) + np.asarray([start, other])
            found += [(int(first), int(second)) for first, second in near if first < second]
    return sorted(found)


def split_folds(targets: Indices, groups: Indices, n_folds: int, seed: int) -> Indices:
    """Return the fold of each image, shape ``(n_images,)``.

    The groups of a label are dealt out at random, each to the fold that has fewest of the label's images so far, and
    among those the fewest images; a group with several labels goes where its first image goes.

    Args:
        targets: Label indices, shape ``(n_images,)``.
        groups: From `group_copies`, same shape.
        n_folds: How many folds.
        seed: The same seed gives the same folds.
    """
    generator = np.random.default_rng(seed)
    folds = np.zeros(len(targets), dtype=np.int64)
    n_labels = int(targets.max()) + 1
    counts = np.zeros((n_labels, n_folds), dtype=np.int64)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(int(group), []).append(row)
    for group in generator.permutation(sorted(members)):
        rows = members[int(group)]
        own = counts[targets[rows[0]]]
        fold = min(range(n_folds), key=lambda index: (own[index], counts[:, index].sum(), index))
        folds[rows] = fold
        counts[:, fold] += np.bincount(targets[rows], minlength=n_labels)
    return folds
