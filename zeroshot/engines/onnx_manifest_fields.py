"""The fields of an export's manifest, each checked for its type and range: an altered file is one error."""

from __future__ import annotations

import math
import re
from typing import Any

from ..encoder import EncoderSpec
from ..enums import Engine, Precision, Score
from ..models.configuration import read_preprocessing

_FILE_NAME = re.compile(r"[\w][\w.-]{0,200}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("model", "architecture", "pretrained", "source", "activation", "device", "configuration")


def whole(document: dict[str, Any], key: str, low: int, high: int) -> int:
    """Return a field that is a whole number in a range.

    Raises:
        ValueError: It is not; other errors are raised where `document` is no object or lacks it.
    """
    value = document[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is {value!r}, not a whole number from {low} to {high}")
    return value


def number(document: dict[str, Any], key: str) -> float:
    """Return a field that is a number, finite or not.

    Raises:
        ValueError: It is not.
    """
    value = document[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, not a number")
    return float(value)


def truth(document: dict[str, Any], key: str) -> bool:
    """Return a field that is true or false.

    Raises:
        ValueError: It is neither.
    """
    value = document[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, not true or false")
    return value


def text(document: dict[str, Any], key: str) -> str:
    """Return a field that is text.

    Raises:
        ValueError: It is not.
    """
    value = document[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, not text")
    return value


def file_name(name: str) -> str:
    """Return the name of a file that lies in the export's own folder.

    Raises:
        ValueError: It could lie elsewhere.
    """
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a file in this folder")
    return name


def sha256(document: dict[str, Any], key: str) -> str:
    """Return a field that is a SHA-256, hexadecimal.

    Raises:
        ValueError: It is not.
    """
    value = text(document, key)
    if not _SHA256.fullmatch(value):
        raise ValueError(f"{key} is {value[:80]!r}, not a SHA-256")
    return value


def tokenizer(document: dict[str, Any], context_length: int) -> dict[str, Any]:
    """Return the arguments that build a tokenizer, of the model's context length.

    Raises:
        ValueError: One has another type or range.
    """
    for key in ("kind", "clean"):
        text(document, key)
    if whole(document, "context_length", 1, 65_536) != context_length:
        raise ValueError(f"the tokenizer's context_length is {document['context_length']}, not {context_length}")
    for key in ("padding_side", "truncation_side"):
        if document.get(key, "right") not in ("left", "right"):
            raise ValueError(f"{key} is {document[key]!r}, not left or right")
    for key in ("pad_id", "zeroed_id"):
        if document.get(key) is not None:
            whole(document, key, 0, 2**31)
    return dict(document)


def spec(document: dict[str, Any]) -> EncoderSpec:
    """Return the facts about the exported model.

    Raises:
        ValueError: One has another type or range.
        ModelError: So has one of the preprocessing.
    """
    shape = document["preprocessing"]
    if len(shape["size"]) != 2:
        raise ValueError(f"size is {shape['size']!r}, not height and width")
    sizes = [whole({"size": side}, "size", 1, 4096) for side in shape["size"]]
    scale, bias = number(document, "logit_scale"), document["logit_bias"]
    if not (math.isfinite(scale) and scale > 0 and (bias is None or math.isfinite(number(document, "logit_bias")))):
        raise ValueError(f"logit_scale is {scale} and logit_bias is {bias}, not finite numbers, the first above 0")
    special = document["special_tokens"]
    if not isinstance(special, list) or not all(isinstance(token, str) for token in special):
        raise ValueError("special_tokens is not a list of texts")
    for key in ("versions", "agreement"):
        if not isinstance(document[key], dict):
            raise ValueError(f"{key} is no object")
    return EncoderSpec(
        **{
            **document,
            **{key: text(document, key) for key in _TEXTS},
            "weights_sha256": sha256(document, "weights_sha256"),
            "preprocessing": read_preprocessing(shape, {"vision_cfg": {"image_size": sizes}}),
            "dim": whole(document, "dim", 1, 65_536),
            "context_length": whole(document, "context_length", 1, 65_536),
            "special_tokens": tuple(special),
            "logit_scale": scale,
            "score": Score(document["score"]),
            "engine": Engine(document["engine"]),
            "precision": Precision(document["precision"]),
        }
    )
