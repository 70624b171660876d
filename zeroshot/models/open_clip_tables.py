"""open_clip's own tables, read without importing open_clip (and so without importing torch).

open_clip knows 196 pairs of architecture and weight tag, 140 architectures, the ImageNet names and the published
templates. Importing it costs many seconds, because its package imports torch and torchvision. The three files
that hold those tables need neither: they are imported here under a second package name whose ``__init__`` is empty.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import ModelError

_ALIAS = "zeroshot._open_clip_tables"
# Optional imports of open_clip.pretrained that pull in torch or a network client; it copes without them.
_HEAVY = ("safetensors.torch", "huggingface_hub")


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package {name!r} is not installed", "pip install open_clip_torch")
    return Path(spec.submodule_search_locations[0])


@cache
def _module(name: str) -> types.ModuleType:
    """Import ``open_clip.<name>`` under the alias package.

    The module gets an ``__import__`` of its own, which does not find the heavy packages: nothing that other threads
    share is changed. Its relative imports go through the alias package, so that ``open_clip/__init__`` is never run.
    """
    package = types.ModuleType(_ALIAS)
    package.__path__ = [str(package_folder("open_clip"))]
    sys.modules.setdefault(_ALIAS, package)
    spec = importlib.util.find_spec(f"{_ALIAS}.{name}")
    if spec is None or spec.loader is None:
        raise ModelError(f"open_clip has no module {name!r}", "pip install 'open_clip_torch>=3.2,<4'")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import_light}
    spec.loader.exec_module(module)
    return module


def _import_light(name: str, *how: Any, **named: Any) -> types.ModuleType:
    if name in _HEAVY:
        raise ImportError(f"{name} is not wanted here")
    return builtins.__import__(name, *how, **named)


def list_pretrained() -> list[tuple[str, str]]:
    """Return every (architecture, weight tag) that open_clip can load."""
    pairs: list[tuple[str, str]] = _module("pretrained").list_pretrained()
    return pairs


def pretrained_config(architecture: str, tag: str) -> dict[str, Any]:
    """Return open_clip's entry for a weight tag: hub repository, preprocessing, activation; empty if unknown."""
    config: dict[str, Any] = _module("pretrained").get_pretrained_cfg(architecture, tag)
    return config


def list_architectures() -> list[str]:
    """Return the names of open_clip's architectures."""
    return sorted(path.stem for path in (package_folder("open_clip") / "model_configs").glob("*.json"))


def model_config(architecture: str) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture; empty if it has none of that name."""
    path = package_folder("open_clip") / "model_configs" / f"{architecture}.json"
    if architecture not in list_architectures():
        return {}
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def bpe_vocabulary() -> Path:
    """Return the path of the byte-pair vocabulary that open_clip's own tokenizer reads."""
    return package_folder("open_clip") / "bpe_simple_vocab_16e6.txt.gz"


def templates(constant: str) -> tuple[str, ...]:
    """Return one of open_clip's template tuples as sentences with ``{}`` where the label goes.

    Args:
        constant: Name in ``open_clip.zero_shot_metadata``, such as ``OPENAI_IMAGENET_TEMPLATES``.

    Raises:
        AttributeError: open_clip has no such constant.
    """
    return tuple(template("{}") for template in getattr(_module("zero_shot_metadata"), constant))


def imagenet_names() -> dict[str, str]:
    """Return ImageNet-1k's names by synset id, in the order of the published class indices.

    open_clip has the names in that order; timm, which open_clip depends on, has the ids in that order.
    """
    synsets = (package_folder("timm") / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    names = _module("zero_shot_metadata").IMAGENET_CLASSNAMES
    return dict(zip(synsets, names, strict=True))
