"""Small models with random weights, and damage to their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.encoder import EncoderSpec, Engine, Precision, Preprocessing, Score

if TYPE_CHECKING:
    from zeroshot.engines.torch_engine import TorchEncoder

TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
VISION: dict[str, Any] = {"image_size": 32, "patch_size": 16, "width": 64, "head_width": 32, "layers": 2}
SENTENCES = [
    "a dog",
    "wow!!! a very long sentence about one dog and two cats, again and again" + " and again" * 9,
    "!",
    "cat",
    "a photo of many cats." * 40,
    "",
]
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}


def make_encoder(
    model: Any, size: int, *, context_length: int = 77, dim: int = 64, tokenizer: Any = None
) -> TorchEncoder:
    """Wrap a random open_clip model, its batch statistics away from the identity."""
    import torch
    from open_clip.tokenizer import SimpleTokenizer

    from zeroshot.engines.torch_engine import TorchEncoder

    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    spec = EncoderSpec(
        model="small",
        architecture="small",
        pretrained="random",
        source="nowhere",
        weights_sha256="0" * 64,
        preprocessing=Preprocessing((size, size), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        dim=64,
        context_length=context_length,
        special_tokens=("<start_of_text>", "<end_of_text>"),
        logit_scale=100.0,
        logit_bias=None,
        score=Score.SOFTMAX,
        activation="gelu",
        engine=Engine.TORCH,
        device="cpu",
        precision=Precision.FP32,
    )
    return TorchEncoder(model, tokenizer or SimpleTokenizer(context_length=context_length), spec)


def vit() -> TorchEncoder:
    from open_clip.model import CLIP

    return make_encoder(CLIP(64, VISION, TEXT, quick_gelu=True), 32)


def flip_a_bit(path: Path) -> None:
    """Damage a file without changing its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
