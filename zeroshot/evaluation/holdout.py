"""Split labelled images into two halves: one to fit on, the other to measure on."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..messages import count_of
from .evaluate import EncodedDataset
from .metrics import Indices

MIN_IMAGES = 20
"""Fewer images in a half say nothing about anything."""


def split_halves(targets: Indices, seed: int) -> tuple[Indices, Indices]:
    """Halve the images of every label at random; odd ones go to the halves in turn, the first to a random one.

    Args:
        targets: Label index of each image, shape ``(n_images,)``.
        seed: The same seed gives the same halves.

    Returns:
        The rows of each half, ascending; together every row, once. One half has at most one row more.
    """
    generator = np.random.default_rng(seed)
    first = np.zeros(len(targets), dtype=bool)
    more = int(generator.integers(2))
    for index in np.unique(targets):
        rows = generator.permutation(np.flatnonzero(targets == index))
        first[rows[: (len(rows) + more) // 2]] = True
        more ^= len(rows) % 2
    return np.flatnonzero(first), np.flatnonzero(~first)


def halve(data: EncodedDataset, seed: int) -> tuple[EncodedDataset, EncodedDataset]:
    """Return the two halves of encoded images.

    Raises:
        InputError: There are too few to learn from one half and measure on the other.
    """
    first, second = split_rows(data.targets, seed)
    return data.subset(first), data.subset(second)


def split_rows(targets: Indices, seed: int) -> tuple[Indices, Indices]:
    """Return the rows of two halves, as `split_halves`.

    Raises:
        InputError: There are too few to learn from one half and measure on the other.
    """
    halves = split_halves(targets, seed)
    if min(len(half) for half in halves) < MIN_IMAGES:
        raise InputError(
            f"{count_of(len(targets), 'image')}: too few to fit on one half and to measure on the other",
            f"at least {2 * MIN_IMAGES} are needed, and some hundreds for a result worth having",
        )
    return halves
