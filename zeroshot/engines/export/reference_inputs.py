"""Fixed images and sentences, encoded by both engines to measure their agreement."""

from __future__ import annotations

import numpy as np

from ...encoder import Encoder, Features, Pixels
from ..onnx_manifest import Agreement

REFERENCE_TEXTS = (
    "",
    "dog",
    "a photo of a dog.",
    "a photo of a cat, a type of pet.",
    "Two people on a beach; one's reading, the other isn't!",
    "café, naïve, 狗, 😀 & 3.14",
    "cat_dog",
    "the quick brown fox jumps over the lazy dog and then walks home along the river in the rain",
    "!!! ??? ... !",
    "one two three four five six seven eight nine ten " * 12,
)
"""Sentences of every length, the last beyond every context."""
_ALIKE = tuple(f"a photo of thing number {first}{second}." for first in range(5) for second in range(5))
"""Sentences of one beginning and one length, which are enough to be encoded from its end on."""


def reference_images(height: int, width: int) -> Pixels:
    """Return fixed images, shape ``(4, height, width, 3)``: noise, blotches, a gradient and a flat colour."""
    generator = np.random.default_rng(20240601)
    noise = generator.integers(0, 256, (height, width, 3))
    coarse = generator.integers(0, 256, (8, 8, 3))
    blotches = coarse[np.arange(height) * 8 // height][:, np.arange(width) * 8 // width]
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None, :]
    gradient = np.stack(np.broadcast_arrays(rows, columns, (rows + columns) / 2), axis=-1)
    flat = np.broadcast_to(np.array([200, 60, 30]), (height, width, 3))
    return np.stack([noise, blotches, gradient, flat]).astype(np.uint8)


def measure_agreement(reference: Encoder, other: Encoder, torch_version: str) -> Agreement:
    """Measure an engine's agreement with a reference engine on the reference images and sentences."""
    images = reference_images(*reference.spec.preprocessing.size)
    image = reference.encode_images(images), other.encode_images(images)
    # Also one by one, at the length that each has: among others a short one is padded to the longest.
    alone = np.concatenate([other.encode_texts([sentence]) for sentence in REFERENCE_TEXTS])
    texts = (*REFERENCE_TEXTS, *_ALIKE)
    expected = reference.encode_texts(texts)
    text = np.concatenate([expected, expected[: len(alone)]]), np.concatenate([other.encode_texts(texts), alone])
    return Agreement(
        image=_lowest_cosine(*image),
        text=_lowest_cosine(*text),
        difference=float(np.max([np.abs(left - right).max() for left, right in (image, text)])),  # NaN stays NaN
        torch=torch_version,
    )


def _lowest_cosine(left: Features, right: Features) -> float:
    return float(np.einsum("nd,nd->n", left.astype(np.float64), right.astype(np.float64)).min())
