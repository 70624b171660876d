"""An open_clip folder's configuration: what the towers are, and how images are prepared for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..encoder import Interpolation, Preprocessing, ResizeMode
from ..errors import ModelError
from .hub.errors import CONFIG

CONFIG_NAME = CONFIG


def read_config(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    """Read an open_clip folder's configuration: the model's, and its preprocessing.

    Raises:
        ModelError: It is not JSON, or lacks what open_clip needs.
    """
    path = folder / CONFIG_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        config = document["model_cfg"]
        preprocess = document.get("preprocess_cfg")
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise KeyError("embed_dim, vision_cfg or text_cfg")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}", "save the model again") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} lacks {error}", "it needs model_cfg with embed_dim, vision_cfg and text_cfg"
        ) from error
    if not preprocess:
        raise ModelError(
            f"{path} has no preprocess_cfg, so how to prepare images is not known",
            "add mean, std, interpolation and resize_mode",
        )
    return config, read_preprocessing(preprocess, config)


def read_preprocessing(config: dict[str, Any], model: dict[str, Any]) -> Preprocessing:
    """Make a preprocessing of open_clip's ``preprocess_cfg`` keys; the size is the vision tower's.

    Raises:
        ModelError: A value is missing or unknown.
    """
    try:
        size = model["vision_cfg"].get("image_size") or config.get("size") or 224
        interpolation = config.get("interpolation") or "bicubic"
        return Preprocessing(
            size=(int(size), int(size)) if isinstance(size, int | float) else (int(size[0]), int(size[1])),
            mean=_triple(config["mean"]),
            std=_triple(config["std"]),
            # open_clip reads "random", a choice for training, as bicubic at inference.
            interpolation=Interpolation("bicubic" if interpolation == "random" else interpolation),
            resize_mode=ResizeMode(config.get("resize_mode") or "shortest"),
            fill_color=int(config.get("fill_color") or 0),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(
            f"unusable preprocessing: {error}",
            "see mean, std, interpolation and resize_mode in the model's configuration",
        ) from error


def _triple(values: float | Sequence[float]) -> tuple[float, float, float]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    red, green, blue = (float(value) for value in values)
    return red, green, blue
