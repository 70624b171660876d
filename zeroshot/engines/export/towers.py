"""The two towers as modules that can be traced: pixels in, token ids of any number of positions in, features out.

Imports torch at the top: only `graphs` imports it, when it exports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as functional

from ...encoder import Preprocessing
from ..onnx_manifest import TextGraph


def image_tower(model: Any, how: Preprocessing) -> nn.Module:
    """Return a module from pixels ``(n, height, width, 3)``, uint8, to features ``(n, dim)``."""
    return _ImageTower(model, how)


def text_tower(model: Any, context_length: int) -> tuple[nn.Module, TextGraph]:
    """Return a module from token ids ``(n, n_positions)`` to features ``(n, dim)``, and how to feed it.

    A causal tower pooled at the end of the text never looks beyond it, so that its graph may read fewer positions.
    CoCa's tower appends a class token that reads, besides the sentence, one padding position: that is spared for it.
    """
    text = getattr(model, "text", model)  # open_clip.model.CLIP carries its text tower's parts itself
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "attn_mask")
    if any(getattr(text, part, None) is None for part in parts):
        return _WholeText(model), TextGraph(dynamic=False)
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
    if getattr(text, "cls_emb", None) is not None:
        # The mask that CoCa's published weights were trained with; the corrected one needs no spare position.
        if text.correct_cls_mask or len(text.positional_embedding) != context_length + 1:
            return _WholeText(model), TextGraph(dynamic=False)
        return _ClassTokenText(text), TextGraph(dynamic=True, spare=1)
    if pool not in ("argmax", "eos") or getattr(text, "use_pad_mask", False):
        return _WholeText(model), TextGraph(dynamic=False)
    return _CausalText(text, pool), TextGraph(dynamic=True)


class _ImageTower(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: Any, how: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(how.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> Any:
        planes = pixels.permute(0, 3, 1, 2).float() / 255
        return self.model.encode_image((planes - self.mean) / self.std, normalize=False)


class _WholeText(nn.Module):
    """Every position, as open_clip encodes them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.model.encode_text(tokens, normalize=False)


class _CausalText(nn.Module):
    """open_clip.model.CLIP.encode_text and TextTransformer.forward, on as many positions as are given."""

    def __init__(self, model: Any, pool: str) -> None:
        super().__init__()
        self.model = model
        self.pool = pool

    def forward(self, tokens: torch.Tensor) -> Any:
        model, length = self.model, tokens.shape[1]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        # The end of the text is the highest id, or the model's own; the norm is per position and can follow.
        ends = tokens if self.pool == "argmax" else (tokens == self._end_id()).to(torch.int32)
        x = model.ln_final(x[torch.arange(x.shape[0]), ends.argmax(dim=-1)])
        return _project(model, x)

    def _end_id(self) -> int:
        return int(getattr(self.model, "eos_id", None) or self.model.text_eos_id)


class _ClassTokenText(nn.Module):
    """CoCa's text tower: a class token after the last position, which reads all but padding."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: torch.Tensor) -> Any:
        text, length = self.text, tokens.shape[1]
        position = text.positional_embedding
        words = text.token_embedding(tokens) + position[:length]
        token = (text.cls_emb + position[-1]).expand(tokens.shape[0], 1, -1)
        keep = torch.cat([torch.ones_like(tokens[:, :1], dtype=torch.bool), tokens != text.pad_id], dim=1)
        padding = torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))
        mask = text.attn_mask[: length + 1, : length + 1] + padding[:, None, None, :]
        mask = mask.expand(-1, text.heads, -1, -1).flatten(0, 1)
        x = text.transformer(torch.cat([words, token], dim=1), attn_mask=mask)
        return _project(text, text.ln_final(x[:, -1]))


def _project(model: Any, x: torch.Tensor) -> Any:
    if model.text_projection is None:
        return x
    return model.text_projection(x) if isinstance(model.text_projection, nn.Module) else x @ model.text_projection


@contextmanager
def traceable_attention() -> Iterator[None]:
    """Let self-attention be traced with its number of positions left open, and without gradients.

    Tracing torch's own forward writes the traced number of positions into the graph as a constant, and its fused
    kernel has no ONNX operator.
    """
    original = nn.MultiheadAttention.forward

    def forward(self: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        same = query is key and key is value and self.in_proj_weight is not None and self.batch_first
        if not same or rest or set(options) - {"need_weights", "attn_mask"} or options.get("need_weights", True):
            return original(self, query, key, value, *rest, **options)
        return _self_attention(self, query, options.get("attn_mask")), None

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    nn.MultiheadAttention.forward = forward  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            yield
    finally:
        nn.MultiheadAttention.forward = original  # type: ignore[method-assign]
        torch.backends.mha.set_fastpath_enabled(fused)


def _self_attention(attention: nn.MultiheadAttention, x: torch.Tensor, mask: torch.Tensor | None) -> Any:
    """Attend as "Attention Is All You Need" does: ``x`` is ``(n, n_positions, width)``, the mask is added."""
    heads = attention.num_heads
    projected = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (torch.unflatten(part, -1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    scores = (query * attention.head_dim**-0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + (torch.unflatten(mask, 0, (-1, heads)) if mask.dim() == 3 else mask)
    return attention.out_proj((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
