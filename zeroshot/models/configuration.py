"""An open_clip folder's configuration: what the towers are, and how images are prepared for them.

Everything in it is checked here, once, before anything is built of it: a folder may come from anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..encoder import Interpolation, Preprocessing, ResizeMode
from ..errors import ModelError
from .checkpoint_files import CONFIG_NAME

_DEFAULT_IMAGE_SIZE = 224
"""open_clip's, for a vision tower that names none; ``preprocess_cfg`` has no say in it."""

_LARGEST_FILE = 16_000_000
"""Bytes; a configuration has a few thousand."""

SIGLIP_TOWER = "zeroshot_siglip"
"""How the name of SigLIP's vision tower in ``timm_model_name`` begins; its sizes follow. See `transformers_folder`."""

_PARTS = ("vision_cfg", "text_cfg", "multimodal_cfg")
# The largest model that open_clip knows has 56 layers of 1792 and 901,629 tokens.
_LIMITS = {
    "embed_dim": 65_536,
    "layers": 1000,
    "width": 65_536,
    "heads": 4096,
    "head_width": 65_536,
    "patch_size": 4096,
    "image_size": 4096,
    "context_length": 65_536,
    "vocab_size": 10_000_000,
    "n_queries": 65_536,
    "attn_pooler_queries": 65_536,
    "attn_pooler_heads": 4096,
    "dim_head": 65_536,
}
"""The largest value of each size; the smallest is 1."""
_LISTS = {"layers": 4, "patch_size": 2, "image_size": 2}
"""Sizes that may be a list of so many: a ResNet's stages, or height and width."""
_MAY_BE_NULL = ("patch_size",)  # a ResNet has none


def read_config(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    """Read an open_clip folder's configuration: the model's, and its preprocessing.

    Raises:
        ModelError: It is not JSON, lacks what open_clip needs, or has sizes that no model has.
    """
    path = folder / CONFIG_NAME
    document = read_json(path)
    try:
        config = document["model_cfg"]
        preprocess = document.get("preprocess_cfg")
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise KeyError("embed_dim, vision_cfg or text_cfg")
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} lacks {error}", "it needs model_cfg with embed_dim, vision_cfg and text_cfg"
        ) from error
    if not preprocess:
        raise ModelError(
            f"{path} has no preprocess_cfg, so how to prepare images is not known",
            "add mean, std, interpolation and resize_mode",
        )
    check_sizes(config, path)
    return config, read_preprocessing(preprocess, config)


def read_json(path: Path) -> Any:
    """Read a JSON file of a checkpoint.

    Raises:
        ModelError: It cannot be read, is far too large, or is not JSON.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_FILE:
            raise ValueError(f"it has {size} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}", "save the model again") from error


def check_sizes(config: Mapping[str, Any], path: Path) -> None:
    """Refuse sizes that open_clip would not read as meant, or that would fill the memory before they fail.

    Args:
        config: open_clip's ``model_cfg``.
        path: Where it was read, for errors.

    Raises:
        ModelError: Names the key, its value and what it may be.
    """
    _check_size("embed_dim", config.get("embed_dim"), path)
    for part in _PARTS:
        values = config.get(part, {})
        if not isinstance(values, dict):
            raise ModelError(f"{path}: {part} is {_shown(values)}, not an object", "save the model again")
        for name in values.keys() & _LIMITS.keys():
            if values[name] is not None or name not in _MAY_BE_NULL:
                _check_size(f"{part}.{name}", values[name], path)
        ratio = values.get("mlp_ratio", 4)
        if not _is_number(ratio) or not 0 < ratio <= 64:
            raise ModelError(f"{path}: {part}.mlp_ratio is {_shown(ratio)}", "it is a number above 0 and up to 64")


def _check_size(key: str, value: Any, path: Path) -> None:
    name = key.rpartition(".")[2]
    most, length = _LIMITS[name], _LISTS.get(name)
    listed = isinstance(value, list) and len(value) == length
    if not all(_is_whole(number) and 1 <= number <= most for number in (value if listed else [value])):
        raise ModelError(
            f"{path}: {key} is {_shown(value)}",
            f"it is a whole number from 1 to {most}" + (f", or a list of {length}" if length else ""),
        )


def count_parameters(config: Mapping[str, Any]) -> int:
    """Return the fewest parameters that towers of these sizes have; those of timm and transformers are not counted.

    Args:
        config: open_clip's ``model_cfg``, checked.
    """
    total = 0
    for part in _PARTS:
        values = config.get(part)
        others = "" if values is None else str(values.get("timm_model_name") or values.get("hf_model_name") or "")
        if values is None or (others and not others.startswith(SIGLIP_TOWER)):
            continue
        width = values.get("width", 768 if part == "vision_cfg" else 512)
        layers = values.get("layers", 12)
        # A transformer's layer has four square matrices and its MLP; of a ResNet's (a list) a fraction is counted.
        total += sum(layers) * width if isinstance(layers, list) else 4 * layers * width**2
        if part == "text_cfg":
            total += width * (values.get("vocab_size", 49408) + values.get("context_length", 77))
    return total


def read_preprocessing(config: Mapping[str, Any], model: Mapping[str, Any]) -> Preprocessing:
    """Make a preprocessing of open_clip's ``preprocess_cfg`` keys; the size is the vision tower's, as in open_clip.

    Raises:
        ModelError: A value is missing or unknown.
    """
    try:
        size = model["vision_cfg"].get("image_size", _DEFAULT_IMAGE_SIZE)
        interpolation = config.get("interpolation") or "bicubic"
        fill = config.get("fill_color") or 0
        if not _is_whole(fill) or not 0 <= fill <= 255:
            raise ValueError(f"fill_color is {_shown(fill)}, not a whole number from 0 to 255")
        return Preprocessing(
            size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            mean=_triple(config["mean"], "mean"),
            std=_triple(config["std"], "std"),
            # open_clip reads "random", a choice for training, as bicubic at inference.
            interpolation=Interpolation("bicubic" if interpolation == "random" else interpolation),
            resize_mode=ResizeMode(config.get("resize_mode") or "shortest"),
            fill_color=fill,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(
            f"unusable preprocessing: {error}",
            "see mean, std, interpolation and resize_mode in the model's configuration",
        ) from error


def _triple(values: Any, name: str) -> tuple[float, float, float]:
    given = [values] * 3 if _is_number(values) else values
    if not isinstance(given, list | tuple) or len(given) != 3 or not all(_is_number(value) for value in given):
        raise ValueError(f"{name} is {_shown(values)}, not three numbers")
    red, green, blue = (float(value) for value in given)
    if name == "std" and min(red, green, blue) <= 0:
        raise ValueError(f"std is {_shown(values)}, not three numbers above 0")
    return red, green, blue


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """Return a value as JSON has it, at most a line of it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
