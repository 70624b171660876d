"""Converts weights of transformers' CLIP and SigLIP to open_clip's names, and SigLIP's vision tower to timm's."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..models.checkpoint import Files
from ..models.checkpoint_files import CONFIG_NAME, TOKENIZER_PATTERNS
from ..models.configuration import SIGLIP_TOWER

_SIGLIP_NAME = re.compile(
    rf"{SIGLIP_TOWER}_w(?P<embed_dim>\d+)_d(?P<depth>\d+)_h(?P<num_heads>\d+)_m(?P<mlp>\d+)_p(?P<patch_size>\d+)"
    r"_s(?P<img_size>\d+)_e(?P<eps>[\d.e-]+)_(?P<act>tanh|erf)"
)


@contextmanager
def as_open_clip_folder(files: Files) -> Iterator[Path]:
    """Give a folder from which open_clip builds the model and its tokenizer, for as long as the block lasts."""
    assert files.folder is not None
    with tempfile.TemporaryDirectory(prefix="zeroshot-") as name:
        made = Path(name)
        # Its base weights are not wanted, and timm knows the tower only once it is registered.
        register_siglip_tower(str(files.config["vision_cfg"].get("timm_model_name", "")))
        (made / CONFIG_NAME).write_text(json.dumps({"model_cfg": files.config}), encoding="utf-8")
        for pattern in TOKENIZER_PATTERNS:
            for path in files.folder.glob(pattern):
                if path.is_file():
                    shutil.copyfile(path, made / path.name)
        yield made


def register_siglip_tower(tower: str) -> None:
    """Teach timm the vision tower that its name describes; other names are left alone."""
    found = _SIGLIP_NAME.fullmatch(tower)
    if not found:
        return
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    sizes: dict[str, Any] = {
        key: int(found[key]) for key in ("embed_dim", "depth", "num_heads", "patch_size", "img_size")
    }
    # open_clip's towers round the product down; half more makes it whole again.
    ratio = (int(found["mlp"]) + 0.5) / sizes["embed_dim"]
    activation = partial(nn.GELU, approximate="tanh") if found["act"] == "tanh" else nn.GELU
    norm = partial(nn.LayerNorm, eps=float(found["eps"]))

    def build(num_classes: int = 0, global_pool: Any = "map", **_: Any) -> Any:
        return VisionTransformer(
            **sizes,
            mlp_ratio=ratio,
            class_token=False,
            global_pool=global_pool,
            num_classes=num_classes,
            act_layer=activation,
            norm_layer=norm,
        )

    build.__name__ = tower
    register_model(build)


def to_open_clip(tensors: Mapping[str, Any], *, siglip: bool) -> dict[str, Any]:
    """Return a state dictionary of transformers' under open_clip's names.

    Args:
        tensors: By transformers' names.
        siglip: They are SigLIP's, else CLIP's.

    Raises:
        KeyError: One is missing.
    """
    layers = _Layers(tensors)
    text, image = ("text.", "visual.trunk.") if siglip else ("", "visual.")
    made = {
        f"{text}token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        f"{text}positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        **layers.copy("text_model.final_layer_norm", f"{text}ln_final"),
        **layers.blocks("text_model", f"{text}transformer.resblocks", _OPEN_CLIP_BLOCK),
        "logit_scale": tensors["logit_scale"].reshape(()),
    }
    patches = tensors["vision_model.embeddings.patch_embedding.weight"]
    positions = tensors["vision_model.embeddings.position_embedding.weight"]
    if not siglip:
        return made | {
            "text_projection": tensors["text_projection.weight"].T,
            f"{image}class_embedding": tensors["vision_model.embeddings.class_embedding"],
            f"{image}conv1.weight": patches,
            f"{image}positional_embedding": positions,
            **layers.copy("vision_model.pre_layrnorm", f"{image}ln_pre"),
            **layers.blocks("vision_model", f"{image}transformer.resblocks", _OPEN_CLIP_BLOCK),
            **layers.copy("vision_model.post_layernorm", f"{image}ln_post"),
            f"{image}proj": tensors["visual_projection.weight"].T,
        }
    head, pool = "vision_model.head", f"{image}attn_pool"
    width = patches.shape[0]
    return made | {
        "logit_bias": tensors["logit_bias"].reshape(()),
        **layers.copy("text_model.head", f"{text}text_projection"),
        f"{image}patch_embed.proj.weight": patches,
        f"{image}patch_embed.proj.bias": tensors["vision_model.embeddings.patch_embedding.bias"],
        f"{image}pos_embed": positions[None],
        **layers.blocks("vision_model", f"{image}blocks", _TIMM_BLOCK),
        **layers.copy("vision_model.post_layernorm", f"{image}norm"),
        f"{pool}.latent": tensors[f"{head}.probe"],
        **{f"{pool}.q.{part}": tensors[f"{head}.attention.in_proj_{part}"][:width] for part in _PARTS},
        **{f"{pool}.kv.{part}": tensors[f"{head}.attention.in_proj_{part}"][width:] for part in _PARTS},
        **layers.copy(f"{head}.attention.out_proj", f"{pool}.proj"),
        **layers.copy(f"{head}.layernorm", f"{pool}.norm"),
        **layers.copy(f"{head}.mlp.fc1", f"{pool}.mlp.fc1"),
        **layers.copy(f"{head}.mlp.fc2", f"{pool}.mlp.fc2"),
    }


_PARTS = ("weight", "bias")
# What a block's parts are called; the projections of query, key and value are one, with these names before its parts.
_OPEN_CLIP_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "qkv": "attn.in_proj_",
}
_TIMM_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "qkv": "attn.qkv.",
}


class _Layers:
    """Parts of a state dictionary under other names.

    Args:
        tensors: By transformers' names.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def copy(self, there: str, here: str) -> dict[str, Any]:
        """Return a layer's weight and bias."""
        return {f"{here}.{part}": self._tensors[f"{there}.{part}"] for part in _PARTS}

    def blocks(self, tower: str, here: str, names: Mapping[str, str]) -> dict[str, Any]:
        """Return a tower's blocks, query, key and value as one projection each."""
        import torch

        made: dict[str, Any] = {}
        found = {int(key.split(".")[3]) for key in self._tensors if key.startswith(f"{tower}.encoder.layers.")}
        for index in sorted(found):
            there = f"{tower}.encoder.layers.{index}"
            for name, ours in names.items():
                if name != "qkv":
                    made |= self.copy(f"{there}.{name}", f"{here}.{index}.{ours}")
            for part in _PARTS:
                rows = [self._tensors[f"{there}.self_attn.{which}_proj.{part}"] for which in "qkv"]
                made[f"{here}.{index}.{names['qkv']}{part}"] = torch.cat(rows)
        return made
