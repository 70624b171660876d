"""A CLIP or SigLIP folder in the format of transformers, read as the open_clip configuration of the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..encoder import Preprocessing
from ..errors import ModelError
from .checkpoint_files import CONFIG_NAME, PREPROCESSOR_NAMES, TRANSFORMERS_CONFIG
from .configuration import SIGLIP_TOWER, check_sizes, read_json, read_preprocessing

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as transformers writes them
_CLIP_EPS = 1e-5  # open_clip's default
_CLIP_TOKENS = 49408  # CLIP's own vocabulary
_SAVE_AGAIN = "load it with transformers, or save the model as an open_clip folder"


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder is in the format of transformers; one with an open_clip configuration is open_clip's."""
    return not (folder / CONFIG_NAME).is_file() and (folder / TRANSFORMERS_CONFIG).is_file()


def read_transformers_config(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    """Read a CLIP or SigLIP folder of transformers as open_clip's ``model_cfg``, and its preprocessing.

    Raises:
        ModelError: It is another kind of model, or has something that open_clip's towers do not.
    """
    path = folder / TRANSFORMERS_CONFIG
    document = read_json(path)
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind not in ("clip", "siglip"):
        raise ModelError(
            f"{path}: model_type is {str(kind)[:60]!r}; of transformers' folders clip and siglip are read",
            f"a folder of open_clip holds {CONFIG_NAME}",
        )
    try:
        text, vision = (_part(document, name, kind) for name in ("text_config", "vision_config"))
        config = _read_clip(document, text, vision) if kind == "clip" else _read_siglip(text, vision)
        check_sizes(config, path)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise ModelError(f"{path} cannot be used: {error}", _SAVE_AGAIN) from error
    if kind == "siglip" or not _has_clips_tokens(folder, text):
        config["text_cfg"]["hf_tokenizer_name"] = "."  # its own, whose files lie in the folder
    return config, _read_processor(folder, config)


# Defaults of transformers, whose configurations hold only what differs from them; sizes of the base models.
_DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("clip", "text_config"): {
        **{"vocab_size": _CLIP_TOKENS, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12},
        **{"num_attention_heads": 8, "max_position_embeddings": 77, "eos_token_id": 49407},
    },
    ("siglip", "text_config"): {
        **{"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
        **{"num_attention_heads": 12, "max_position_embeddings": 64},
    },
    ("clip", "vision_config"): {"patch_size": 32},
    ("siglip", "vision_config"): {"patch_size": 16},
}
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_VISION |= {"image_size": 224, "num_channels": 3}
_COMMON = {
    "clip": {"hidden_act": "quick_gelu", "layer_norm_eps": _CLIP_EPS},
    "siglip": {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
}


def _part(document: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    given = document.get(name) or {}
    return {**_COMMON[kind], **(_VISION if name == "vision_config" else {}), **_DEFAULTS[kind, name], **given}


def _read_clip(document: dict[str, Any], text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    activations = {text["hidden_act"], vision["hidden_act"]}
    if len(activations) != 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ValueError(f"hidden_act is {' and '.join(sorted(map(str, activations)))}, not quick_gelu or gelu")
    text_cfg = _tower(text) | {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "heads": text["num_attention_heads"],
    }
    end = text["eos_token_id"]
    # Old configurations say 2, which transformers reads as the highest id, as CLIP itself does.
    if end not in (2, text["vocab_size"] - 1):
        text_cfg |= {"pool_type": "eos", "eos_id": end}
    vision_cfg = _tower(vision) | {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "head_width": _head_width(vision),
    }
    config = {"embed_dim": document.get("projection_dim", 512), "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    return config | ({"quick_gelu": True} if activations == {"quick_gelu"} else {})


def _read_siglip(text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    if not vision.get("vision_use_head", True):
        raise ValueError("vision_use_head is false: there is no pooling of patches")
    tower = _tower(vision)
    tanh = _is_tanh(vision["hidden_act"])
    name = (
        f"{SIGLIP_TOWER}_w{tower['width']}_d{tower['layers']}_h{vision['num_attention_heads']}"
        f"_m{vision['intermediate_size']}_p{vision['patch_size']}_s{vision['image_size']}"
        f"_e{vision['layer_norm_eps']}_{'tanh' if tanh else 'erf'}"
    )
    text_cfg = {
        **_tower(text),
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "heads": text["num_attention_heads"],
        "norm_kwargs": {"eps": text["layer_norm_eps"]},
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    }
    if _is_tanh(text["hidden_act"]):
        text_cfg["act_kwargs"] = {"approximate": "tanh"}
    vision_cfg = {
        **{key: tower[key] for key in ("width", "layers", "mlp_ratio")},  # checked, and what the name is made of
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "timm_model_name": name,
        "timm_pool": "map",
        "timm_proj": "none",
    }
    return {
        "embed_dim": text.get("projection_size") or text["hidden_size"],
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }


def _tower(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("num_channels", 3) != 3:
        raise ValueError(f"num_channels is {part['num_channels']}, not 3")
    width, eps = part["hidden_size"], part["layer_norm_eps"]
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(f"layer_norm_eps is {eps!r}, not a small number")
    # A half more, so that the product, which open_clip rounds down, is the intermediate size again.
    ratio = (part["intermediate_size"] + 0.5) / width
    tower = {"width": width, "layers": part["num_hidden_layers"], "mlp_ratio": ratio}
    return tower | ({} if eps == _CLIP_EPS else {"norm_kwargs": {"eps": eps}})


def _head_width(part: dict[str, Any]) -> int:
    width, rest = divmod(part["hidden_size"], part["num_attention_heads"])
    if rest:
        raise ValueError(f"hidden_size {part['hidden_size']} is not a multiple of num_attention_heads")
    return int(width)


def _is_tanh(activation: Any) -> bool:
    if activation not in ("gelu_pytorch_tanh", "gelu"):
        raise ValueError(f"hidden_act is {str(activation)[:60]!r}, not gelu_pytorch_tanh or gelu")
    return bool(activation == "gelu_pytorch_tanh")


def _has_clips_tokens(folder: Path, text: dict[str, Any]) -> bool:
    """Whether a CLIP model reads CLIP's own vocabulary, for which open_clip needs no files."""
    if text["vocab_size"] != _CLIP_TOKENS:
        return False
    if not (folder / "vocab.json").is_file():
        return not (folder / "tokenizer.json").is_file() or _spells_like_clip(
            read_json(folder / "tokenizer.json").get("model", {}).get("vocab")
        )
    return _spells_like_clip(read_json(folder / "vocab.json"))


def _spells_like_clip(vocabulary: Any) -> bool:
    known = {"!": 0, "a</w>": 320, "<|startoftext|>": _CLIP_TOKENS - 2, "<|endoftext|>": _CLIP_TOKENS - 1}
    return isinstance(vocabulary, dict) and known.items() <= vocabulary.items()


def _read_processor(folder: Path, config: dict[str, Any]) -> Preprocessing:
    """Read how images are prepared: transformers writes it beside the configuration.

    Raises:
        ModelError: There is none, or open_clip prepares no image so.
    """
    path = next((folder / name for name in PREPROCESSOR_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"{folder} has no {PREPROCESSOR_NAMES[0]}, so how to prepare images is not known",
            "copy it from where the model is from",
        )
    document = read_json(path)
    try:
        how = document.get("image_processor", document)
        shape, crop = how["size"], how.get("crop_size")
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if how.get(step) is False:
                raise ValueError(f"{step} is false")
        if isinstance(shape, int):
            shape = {"shortest_edge": shape}
        size = config["vision_cfg"]["image_size"]
        if shape == {"shortest_edge": size} and how.get("do_center_crop", True):
            mode = "shortest"
            if crop not in (None, size, {"height": size, "width": size}):
                raise ValueError(f"crop_size is {crop!r}, not the vision tower's {size}")
        elif shape == {"height": size, "width": size}:
            mode = "squash"
        else:
            raise ValueError(f"size is {shape!r}, not the vision tower's {size}")
        resample = how.get("resample", 3)
        if resample not in _INTERPOLATIONS:
            raise ValueError(f"resample is {resample!r}, not 2 (bilinear) or 3 (bicubic)")
        given = {"mean": how["image_mean"], "std": how["image_std"], "resize_mode": mode}
        return read_preprocessing({**given, "interpolation": _INTERPOLATIONS[resample]}, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be used: {error}", _SAVE_AGAIN) from error
