"""Checks of this installation: versions, devices, the cache, and a self-test of the built-in checkpoint."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..encoder import Encoder
from ..errors import ZeroshotError
from ..models import resolvers
from ..models.hub.errors import cache_folder

REFERENCE_FEATURES = "reference_features.json"
"""Features of fixed inputs, stored beside the built-in checkpoint when it was made."""

_PACKAGES = (
    "zeroshot",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "onnxruntime",
    "tokenizers",
    "pillow",
    "numpy",
    "huggingface_hub",
    "transformers",
)
_TEXTS = ("a photo of a cat.", "dog", "an aerial image of a bridge over a river")


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its outcome.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be.
        detail: What was found.
        hint: What fixes it; empty where nothing needs fixing.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


def reference_pixels(size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return two fixed test images, shape ``(2, height, width, 3)``: a gradient and a checkerboard."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    gradient = np.stack(
        [rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1), (rows + columns) % 256], axis=-1
    )
    board = np.repeat((((rows // 8 + columns // 8) % 2) * 255)[..., None], 3, axis=-1)
    return np.stack([gradient, board]).astype(np.uint8)


def reference_features(encoder: Encoder) -> dict[str, list[list[float]]]:
    """Encode the fixed images and texts; rows are rounded to 6 digits for storing."""
    images = encoder.encode_images(reference_pixels(encoder.spec.preprocessing.size))
    texts = encoder.encode_texts(_TEXTS)
    return {"images": np.round(images, 6).tolist(), "texts": np.round(texts, 6).tolist()}


def examine() -> Iterator[Check]:
    """Yield the outcomes of all checks, quick ones first."""
    yield Check("python", True, f"{platform.python_version()} on {platform.platform()}")
    for package in _PACKAGES:
        try:
            yield Check(package, True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            optional = package == "transformers"
            yield Check(
                package,
                optional,
                "not installed" + (" (only SigLIP and multilingual models need it)" if optional else ""),
                "" if optional else f"pip install {package}",
            )
    cache = cache_folder()
    place = next((parent for parent in (cache, *cache.parents) if parent.exists()), cache)
    writable = os.access(place, os.W_OK)
    yield Check("model cache", writable, str(cache), "" if writable else "set HF_HOME to a folder that can be written")
    try:
        from . import torch_loading

        torch_loading.import_open_clip()
    except ZeroshotError as error:
        yield Check("PyTorch", False, error.message, error.hint)
        return
    yield from (Check("device", True, line) for line in torch_loading.list_devices())
    yield from _examine_builtin()


def _examine_builtin() -> Iterator[Check]:
    """Load the built-in checkpoint and compare its answers with those stored when it was made."""
    from .choose import load_encoder

    try:
        encoder = load_encoder("tiny")
    except ZeroshotError as error:
        yield Check(
            "tiny",
            False,
            error.message,
            error.hint or "install zeroshot again: pip install --force-reinstall . in its checkout",
        )
        return
    spec, how = encoder.spec, encoder.spec.preprocessing
    yield Check("tiny weights", True, f"sha256 {spec.weights_sha256}")
    yield Check(
        "tiny model",
        True,
        f"activation {spec.activation}, context length {spec.context_length}, logit scale {spec.logit_scale:.4g}",
    )
    yield Check("tiny preprocessing", True, f"{how.size[1]} x {how.size[0]}, {how.resize_mode}, {how.interpolation}")
    stored = json.loads((resolvers.builtin_folder() / REFERENCE_FEATURES).read_text(encoding="utf-8"))
    found = reference_features(encoder)
    worst = min(
        float(np.sum(np.asarray(found[kind]) * np.asarray(stored[kind]), axis=1).min()) for kind in ("images", "texts")
    )
    ok = worst > 0.9999
    yield Check(
        "tiny reference features",
        ok,
        f"cosine to the stored features {worst:.6f} on {spec.engine}",
        "" if ok else "this installation computes something else: install torch and zeroshot again",
    )
