"""The names of the files that make up a checkpoint, in a folder as in a repository."""

from __future__ import annotations

CONFIG_NAME = "open_clip_config.json"
"""open_clip's configuration."""
TRANSFORMERS_CONFIG = "config.json"
"""That of transformers, in folders that hold no other."""
CONFIGS = (CONFIG_NAME, TRANSFORMERS_CONFIG)
PREPROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")
"""How images are prepared, in folders of transformers."""

# Safetensors first: they cannot carry code.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
)
"""Well-known names of weights, the preferred one first."""

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".npz")

# What a tokenizer or a text tower from transformers may need beside them.
TOKENIZER_PATTERNS = ("*token*.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", TRANSFORMERS_CONFIG)


def largest(name: str) -> int:
    """Return the bytes beyond which a file of this name is something else: weights, or what stands beside them."""
    return 200 * 10**9 if name.endswith(WEIGHT_SUFFIXES) else 10**9
