"""The end of `train.py`: what the towers get right on images that no stage saw, the logit scale, the folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from image_features import load_classifier
from safetensors.torch import save_file
from text_tower import class_rows
from torch import Tensor

if TYPE_CHECKING:
    from train import Towers


@torch.inference_mode()
def validate(towers: Towers) -> dict[str, tuple[Tensor, Tensor]]:
    """Return cosines ``(n, n_labels)`` and right columns of the held-back training images of each domain."""
    found = {}
    towers.table.eval()
    for name, features, labels, words in towers.material.images.held_back(towers.material.lexicon):
        rows = class_rows(towers.model, towers.table, towers.captions, words, ["{}", "a photo of a {}."])
        cosines = towers.space.images(features.float()) @ rows.T
        found[name] = (cosines, labels)
        print(f"{name}: {(cosines.argmax(1) == labels).float().mean():.4f} of {len(labels)}, {len(words)} labels")
    towers.table.train()
    return found


def fit_scale(found: dict[str, tuple[Tensor, Tensor]]) -> float:
    """Return the logit scale that makes the labels most likely, each domain counting the same (Guo et al. 2017)."""
    scales = torch.linspace(math.log(4), math.log(100), 300).exp()
    losses = [sum(F.cross_entropy(s * c, right).item() for c, right in found.values()) for s in scales.tolist()]
    return scales[int(np.argmin(losses))].item()


def write(towers: Towers, config: dict[str, Any], scale: float, out: Path) -> None:
    """Write open_clip's folder, weights in float16 but for what half precision would hurt."""
    trunk = load_classifier().state_dict()
    state = {f"visual.trunk.{name}": value for name, value in trunk.items() if not name.startswith("classifier")}
    state |= {name: value for name, value in towers.model.state_dict().items() if not name.startswith("visual")}
    state["visual.head.proj.weight"] = towers.space.projection.weight.detach()
    state["visual.head.proj.bias"] = towers.space.projection.bias.detach()
    state["token_embedding.weight"] = towers.table.table()
    state["logit_scale"] = torch.tensor(math.log(scale))
    statistics = ("running_mean", "running_var", "logit_scale")
    tensors = {
        name: (value.float() if name.endswith(statistics) else value.half()) if value.is_floating_point() else value
        for name, value in state.items()
    }
    assert all(value.isfinite().all() for value in tensors.values())
    out.mkdir(parents=True, exist_ok=True)
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, out / "open_clip_model.safetensors")
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir()) / 1e6:.2f} MB, logit scale {scale:.2f}")
