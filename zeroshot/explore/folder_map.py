"""A folder in two dimensions: images that look alike lie beside each other.

Six hundred images, evenly spaced, are laid out by t-SNE (van der Maaten and Hinton, JMLR 2008), with the distance to a
near neighbour in place of a perplexity (Zelnik-Manor and Perona, NIPS 2004). Every other image stands among the three
of them that it is most like. Nothing is drawn by chance: the same features give the same map.
"""

from __future__ import annotations

import threading

import numpy as np

from ..encoder import Features
from .label_scores import Floats

_MOST_LAID_OUT = 600
_MOST_FOR_AXES = 20_000
"""Images whose covariance gives the principal axes."""

_NEIGHBOUR = 10
_STEPS, _EXAGGERATED, _EXAGGERATION = 250, 80, 12.0
_BLOCK = 4096
_PART = 0.86
"""Of the window, so that small images at the edge are whole."""

_GROWTH = 2
"""The map is laid out anew when there are so many times more images than it was laid out by."""


class FolderMap:
    """Where each image lies; made in the background when it is first asked for, and kept.

    Images that come later find their places among those that are there, which stay where they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._placed: Floats | None = None
        self._layout: _Layout | None = None

    def places(self, features: Features) -> Floats | None:
        """Return where images lie, shape ``(n_images, 2)`` from 0 to 1; None while that is worked out.

        Args:
            features: Unit rows, shape ``(n_images, dim)``; rows are only ever added at the end.
        """
        if not len(features):
            return np.empty((0, 2), np.float32)
        with self._lock:
            if self._placed is not None and len(self._placed) >= len(features):
                return self._placed[: len(features)]
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, args=(features,), name="map", daemon=True)
                self._thread.start()
            return None

    def _work(self, features: Features) -> None:
        layout, placed = self._layout, self._placed
        if layout is None or placed is None or len(features) >= _GROWTH * layout.n:
            layout = _Layout(features)
            placed = np.empty((0, 2), dtype=np.float32)
        added = layout.place(features[len(placed) :])
        with self._lock:
            self._layout, self._placed = layout, np.concatenate([placed, added])


class _Layout:
    """A map of some images, and how others find their places on it."""

    def __init__(self, features: Features) -> None:
        self.n = len(features)
        chosen = np.linspace(0, max(0, self.n - 1), min(self.n, _MOST_LAID_OUT)).astype(np.intp)
        self._rows = features[chosen]
        self._axes, self._centre = principal_axes(features)
        self._flat = np.asarray((self._rows - self._centre) @ self._axes, dtype=np.float32)
        laid = lay_out(self._rows, self._flat)
        low, high = (laid.min(axis=0), laid.max(axis=0)) if len(laid) else (0.0, 0.0)
        # Differences that are none but of rounding leave all in the middle.
        self._laid = 0.5 + _PART * (laid - (low + high) / 2) / np.maximum(high - low, 1e-5)
        # How far an image stands off those that it is most like: less than they stand from each other.
        spread = float(np.std(self._flat)) if len(laid) else 0.0
        self._nudge = 0.3 / (max(spread, 1e-9) * max(len(laid), 1) ** 0.5)

    def place(self, features: Features) -> Floats:
        """Return where images lie, shape ``(n, 2)`` from 0 to 1."""
        found = np.empty((len(features), 2), dtype=np.float32)
        kept = min(3, len(self._rows))
        for start in range(0, len(features), _BLOCK):
            rows = features[start : start + _BLOCK]
            cosines = rows @ self._rows.T
            nearest = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
            like = np.take_along_axis(cosines, nearest, axis=1)
            weights = np.exp(30.0 * (like - like.max(axis=1, keepdims=True)))
            weights /= weights.sum(axis=1, keepdims=True)
            among = np.einsum("nk,nkd->nd", weights, self._laid[nearest])
            off = (rows - self._centre) @ self._axes - np.einsum("nk,nkd->nd", weights, self._flat[nearest])
            exact = like.max(axis=1) > 1 - 1e-6  # one of those that were laid out
            among[exact] = self._laid[nearest[exact, like[exact].argmax(axis=1)]]
            off[exact] = 0.0
            found[start : start + len(rows)] = np.clip(among + self._nudge * off, 0.0, 1.0)
        return found


def principal_axes(features: Features) -> tuple[Floats, Floats]:
    """Return the two directions in which images differ most, shape ``(dim, 2)``, and their mean, shape ``(dim,)``."""
    rows = features[:: max(1, len(features) // _MOST_FOR_AXES)]
    dim = features.shape[1]
    if not len(rows):
        return np.zeros((dim, 2), np.float32), np.zeros(dim, np.float32)
    centre = rows.mean(axis=0)
    off = rows - centre
    _, vectors = np.linalg.eigh(off.T @ off)
    axes = vectors[:, : -min(dim, 2) - 1 : -1]
    # An axis has no direction of its own: its largest part points up.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = np.pad(axes * np.sign(largest), ((0, 0), (0, 2 - axes.shape[1])))
    return axes.astype(np.float32), centre.astype(np.float32)


def lay_out(rows: Features, flat: Floats) -> Floats:
    """Lay out images in two dimensions so that near neighbours stay near.

    Args:
        rows: Unit rows, shape ``(n, dim)``; 600 take two seconds, and twice as many four times as long.
        flat: Where they begin, shape ``(n, 2)``.
    """
    n = len(rows)
    if n < 5:
        return flat.astype(np.float32)
    squared = np.maximum(0, 2 - 2 * (rows @ rows.T))
    np.fill_diagonal(squared, 0)
    near = np.sqrt(np.partition(squared, min(_NEIGHBOUR, n - 1), axis=1)[:, min(_NEIGHBOUR, n - 1)]) + 1e-6
    # Half of the squared distance, at which a neighbour on the edge weighs little.
    wanted = np.exp(-2 * squared / np.outer(near, near))
    np.fill_diagonal(wanted, 0)
    wanted /= wanted.sum(axis=1, keepdims=True) + 1e-12
    wanted = (wanted + wanted.T) / (2 * n)
    at = (flat / max(float(flat.std()), 1e-9) * 1e-2).astype(np.float32)
    speed, gain = np.zeros_like(at), np.ones_like(at)
    rate = max(n / _EXAGGERATION / 4, 50.0)
    for step in range(_STEPS):
        pull = wanted * (_EXAGGERATION if step < _EXAGGERATED else 1.0)
        lengths = (at * at).sum(axis=1)
        kernel = 1 / (1 + np.maximum(0, lengths[:, None] + lengths[None] - 2 * (at @ at.T)))
        np.fill_diagonal(kernel, 0)
        force = (pull - kernel / max(float(kernel.sum()), 1e-12)) * kernel
        slope = 4 * (force.sum(axis=1)[:, None] * at - force @ at)
        gain = np.maximum(np.where(slope * speed > 0, gain * 0.8, gain + 0.2), 0.01)
        speed = (0.5 if step < _EXAGGERATED else 0.8) * speed - rate * gain * slope
        at += speed
        at -= at.mean(axis=0)
    return at
