"""An encoder that needs no model: the mean colour of an image against the colour words in a sentence."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zeroshot.encoder import EncoderSpec, Features, Pixels, Preprocessing
from zeroshot.enums import Engine, Precision, Score
from zeroshot.errors import ModelError, ResourceError

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}


class FakeEncoder:
    """Implements `zeroshot.encoder.Encoder` in a few lines of colour arithmetic.

    A sentence is the mean of the colours it names; one that names none is a direction of its own, at right angles to
    every image. A token is a word, and two positions are special, as in CLIP.

    Attributes:
        batches: How many images came in each call of `encode_images`.
        texts: Every sentence that was encoded.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (8, 8),
        logit_scale: float = 10.0,
        logit_bias: float | None = None,
        context_length: int = 77,
        special_tokens: tuple[str, ...] = ("<start_of_text>", "<end_of_text>"),
        engine: Engine = Engine.TORCH,
    ) -> None:
        self._spec = EncoderSpec(
            model="fake",
            architecture="colour-words",
            pretrained="",
            source="tests",
            weights_sha256="0" * 64,
            preprocessing=Preprocessing(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            dim=8,
            context_length=context_length,
            special_tokens=special_tokens,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            score=Score.SOFTMAX if logit_bias is None else Score.SIGMOID,
            activation="gelu",
            engine=engine,
            device="cpu",
            precision=Precision.FP32,
            versions={"fake": "1"},
        )
        self.batches: list[int] = []
        self.texts: list[str] = []
        self._lock = threading.Lock()

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def encode_images(self, pixels: Pixels) -> Features:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (*self._spec.preprocessing.size, 3)
        with self._lock:
            self.batches.append(len(pixels))
        return np.stack([colour_row(image.reshape(-1, 3).mean(axis=0)) for image in pixels])

    def encode_texts(self, texts: Sequence[str]) -> Features:
        self.texts += texts
        return np.stack([self._text_row(text) for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def _text_row(self, text: str) -> Features:
        words = text.split()[: self._spec.context_length - 2]
        named = [COLOURS[word] for word in re.findall(r"\w+", " ".join(words).casefold()) if word in COLOURS]
        if named:
            return colour_row(np.mean(named, axis=0))
        own = np.random.default_rng(zlib.crc32(" ".join(words).encode("utf-8", "surrogatepass"))).normal(size=4)
        return np.concatenate([np.zeros(4), own / np.linalg.norm(own)]).astype(np.float32)


def colour_row(rgb: Sequence[float] | np.ndarray) -> Features:
    """Return a unit row of 8 for a colour: its distance from mid-grey, and a little of its own for grey itself."""
    row = np.asarray([*(np.asarray(rgb, dtype=np.float64) / 255 - 0.5), 0.05, 0, 0, 0, 0])
    return (row / np.linalg.norm(row)).astype(np.float32)


class FakeModel:
    """Stands in for `load_encoder`: gives `encoder`, and keeps what it was asked for in `calls`."""

    def __init__(self) -> None:
        self.encoder = FakeEncoder()
        self.calls: list[dict[str, Any]] = []

    def load_encoder(self, model: str | None = None, pretrained: str | None = None, **options: Any) -> FakeEncoder:
        self.calls.append({"model": model, "pretrained": pretrained, **options})
        return self.encoder


def load_in_process(how: str, warn: Callable[[str], None]) -> FakeEncoder:
    """Load the colour encoder as the process of a device does: ``well``, or so that it ends or fails in some way."""
    warn("a warning of every device")
    if how == "no model":
        raise ModelError("there is no such model", "name another one")
    encoder = FakeEncoder()

    def encode_images(pixels: Pixels) -> Features:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "fails":
            raise ResourceError("the memory of the device is not enough", "a smaller --batch-size")
        if how == "hangs":
            time.sleep(600)
        return FakeEncoder.encode_images(encoder, pixels)

    encoder.encode_images = encode_images  # type: ignore[method-assign]
    return encoder
