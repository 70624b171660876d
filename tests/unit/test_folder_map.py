"""The map of a folder: what is alike lies together, the same each time, and stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from zeroshot.explore.folder_map import FolderMap, principal_axes


def clusters(count: int, of: int = 12, dim: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows around some directions, and which direction each is near."""
    generator = np.random.default_rng(0)
    middles = generator.standard_normal((of, dim), dtype=np.float32)
    group = generator.integers(of, size=count)
    rows = middles[group] + generator.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), group


def places(found: FolderMap, rows: np.ndarray) -> np.ndarray:
    """Wait for the map."""
    placed = found.places(rows)
    if placed is None:
        found._thread.join()  # type: ignore[union-attr]
        placed = found.places(rows)
    assert placed is not None
    return placed


def neighbours_agree(at: np.ndarray, group: np.ndarray) -> float:
    """Return the share of images whose nearest neighbour is of the same group."""
    squared = ((at[:, None] - at[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    return float((group[squared.argmin(axis=1)] == group).mean())


def test_neighbours_are_alike_where_two_axes_mix_them() -> None:
    """Of twelve groups, nearly every image lies beside one of its own, those placed later too."""
    rows, group = clusters(1500)
    at = places(FolderMap(), rows)
    axes, centre = principal_axes(rows)
    assert at.shape == (1500, 2) and at.dtype == np.float32
    assert at.min() >= 0 and at.max() <= 1
    assert neighbours_agree(at, group) > 0.9 > 0.7 > neighbours_agree((rows - centre) @ axes, group)


def test_the_same_images_give_the_same_map() -> None:
    """Nothing is drawn by chance."""
    rows, _ = clusters(120)
    assert np.array_equal(places(FolderMap(), rows), places(FolderMap(), rows))


def test_images_that_come_later_move_no_other() -> None:
    """They find their places among those that are there; twice as many images are laid out anew."""
    rows, group = clusters(200)
    found = FolderMap()
    first = places(found, rows[:120])
    assert found.places(rows[:120]) is not None
    grown = places(found, rows[:200])
    assert np.array_equal(grown[:120], first)
    assert neighbours_agree(grown, group) > 0.8
    more, _ = clusters(260)
    assert not np.array_equal(places(found, more)[:120], first)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 12])
@pytest.mark.parametrize("same", [False, True])
def test_few_images_and_copies(count: int, same: bool) -> None:
    """Each has a place, also where there is one image only or all are copies."""
    rows = clusters(count)[0]
    if same:
        rows[:] = rows[:1]
    at = places(FolderMap(), rows)
    assert at.shape == (count, 2)
    assert np.isfinite(at).all()
    if count == 1 or (same and 0 < count < 5):
        assert np.allclose(at, 0.5, atol=0.01)
    elif count > 1:
        assert np.allclose((at.min(axis=0) + at.max(axis=0)) / 2, 0.5, atol=0.01)
        assert at.min() >= 0.06 and at.max() <= 0.94


def test_axes_are_those_of_the_largest_spread() -> None:
    """Of points along two axes, these are found, longest first, their largest part positive."""
    rows = np.zeros((40, 3), np.float32)
    rows[:20, 2] = np.linspace(-2, 2, 20)
    rows[20:, 0] = np.linspace(-1, 1, 20)
    axes, centre = principal_axes(rows)
    assert np.allclose(axes, [[0, 1], [0, 0], [1, 0]], atol=1e-5)
    assert np.allclose(centre, 0, atol=1e-6)
