"""The interface that every engine implements; numpy arrays go in and come out.

An engine is anything that turns images and texts into unit rows of the same space. One implementation uses
PyTorch and another ONNX Runtime; that of the tests takes an image's mean colour for its features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .enums import Device as Device
from .enums import Engine as Engine
from .enums import Interpolation as Interpolation
from .enums import Precision as Precision
from .enums import ResizeMode as ResizeMode
from .enums import Score as Score
from .errors import InputError

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the model's input.

    Attributes:
        size: Height and width in pixels.
        mean: Subtracted per channel from values in [0, 1].
        std: Divided by, per channel, afterwards.
        interpolation: Filter for resizing.
        resize_mode: How the shape is made to fit.
        fill_color: Value in [0, 255] of the padding in `ResizeMode.LONGEST`.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = Interpolation.BICUBIC
    resize_mode: ResizeMode = ResizeMode.SHORTEST
    fill_color: int = 0


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The facts about a loaded model that decide its answers or belong in a manifest.

    Attributes:
        model: The model as the user named it.
        architecture: open_clip's name of the architecture, or the folder's.
        pretrained: open_clip's weight tag, empty where there is none.
        source: Where the weights came from (a hub repository, a folder, a file).
        weights_sha256: Hash of the weights file, hexadecimal.
        preprocessing: How images are prepared.
        dim: Length of a feature row.
        context_length: Tokens that the text tower reads, special ones included.
        special_tokens: Spellings that the tokenizer would read as control tokens inside a label.
        logit_scale: What similarities are multiplied by (the exponential is already applied).
        logit_bias: What is added then; None for models without one.
        score: What the model was trained for.
        activation: ``quick_gelu`` or ``gelu`` (or what the architecture fixes by itself).
        engine: What runs the towers.
        device: Where.
        precision: In which arithmetic.
        versions: Versions of the libraries that take part in the answer.
        agreement: How near this engine's features come to the reference's, where that was measured.
        configuration: Hash of what the weights are computed with, and the words read with, hexadecimal.
    """

    model: str
    architecture: str
    pretrained: str
    source: str
    weights_sha256: str
    preprocessing: Preprocessing
    dim: int
    context_length: int
    special_tokens: tuple[str, ...]
    logit_scale: float
    logit_bias: float | None
    score: Score
    activation: str
    engine: Engine
    device: str
    precision: Precision
    versions: dict[str, str] = field(default_factory=dict, hash=False)
    agreement: dict[str, float | str] = field(default_factory=dict, hash=False)
    configuration: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides a feature: weights, configuration, activation, preprocessing and precision."""
        decisive = [
            self.weights_sha256,
            self.configuration,
            self.activation,
            asdict(self.preprocessing),
            self.precision,
        ]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


class Encoder(Protocol):
    """Turns images and texts into unit rows of one space."""

    @property
    def spec(self) -> EncoderSpec:
        """The facts about the loaded model."""
        ...

    def encode_images(self, pixels: Pixels) -> Features:
        """Encode images that `preprocess.fit` has brought to the model's size.

        Args:
            pixels: RGB values, shape ``(n_images, height, width, 3)``; the engine scales and normalises them.

        Returns:
            Shape ``(n_images, dim)``, unit rows.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Encode sentences; those beyond the context length are truncated as open_clip truncates them.

        Returns:
            Shape ``(n_texts, dim)``, unit rows.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text before truncation, special ones included."""
        ...


@runtime_checkable
class ParallelEncoder(Encoder, Protocol):
    """An encoder that works on several batches at the same time."""

    @property
    def n_devices(self) -> int:
        """How many."""
        ...

    def submit(self, pixels: Pixels) -> Future[Features]:
        """Begin to encode a batch, as `Encoder.encode_images`."""
        ...


@runtime_checkable
class BatchingEncoder(Encoder, Protocol):
    """An encoder that knows which batches suit its device."""

    @property
    def best_batch(self) -> int:
        """How many images to encode together."""
        ...


def check_rows(rows: npt.NDArray[np.floating], dim: int, name: str) -> None:
    """Refuse features that a model with ``dim`` numbers per row cannot have made.

    Raises:
        InputError: The shape is not ``(n, dim)``.
    """
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InputError(f"{name} has the shape {rows.shape}; expected (n, {dim})", "one row per image, of this model")


def average(features: Features) -> Features:
    """Return the unit mean of unit rows, shape ``(n, dim)`` to ``(dim,)``."""
    mean = np.asarray(features, dtype=np.float32).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)
