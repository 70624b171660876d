"""The two towers as modules that can be traced: pixels in, token ids of any number of positions in, features out.

Imports torch at the top: only `graphs` imports it, when it exports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
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
    if _can_resume(text):
        return ResumedText(text, pool), TextGraph(dynamic=True)
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
        # The norm is per position and can follow.
        x = model.ln_final(x[torch.arange(x.shape[0]), _ends(model, self.pool, tokens)])
        return _project(model, x)


class ResumedText(nn.Module):
    """What `_CausalText` computes, from a beginning on that all texts share: of it, only keys and values are needed.

    ``beginning`` is ``(2 * n_layers, n_before, width)``: each layer's keys, then its values. Besides the features,
    those of the first text's positions are returned. The last layer computes nothing but where a text ends.
    """

    def __init__(self, model: Any, pool: str) -> None:
        super().__init__()
        self.model = model
        self.pool = pool

    def example(self) -> torch.Tensor:
        """Return a beginning of two positions to trace with."""
        blocks = self.model.transformer.resblocks
        return torch.zeros((2 * len(blocks), 2, blocks[0].attn.embed_dim))

    def forward(self, tokens: torch.Tensor, beginning: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Return features ``(n, dim)``, and the first text's keys and values ``(2 * n_layers, n_positions, width)``."""
        model = self.model
        before, total = beginning.shape[1], beginning.shape[1] + tokens.shape[1]
        x = model.token_embedding(tokens) + model.positional_embedding[before:total]
        mask = model.attn_mask[before:total, :total]
        rows, ends = torch.arange(x.shape[0]), _ends(model, self.pool, tokens)
        blocks, states = list(model.transformer.resblocks), []
        for index, block in enumerate(blocks):
            normed = block.ln_1(x)
            if block is blocks[-1]:
                x, mask = x[rows, ends][:, None], mask[ends][:, None, None]
                query = _project_in(block.attn, normed[rows, ends][:, None], 0, 1)
                key, value = _project_in(block.attn, normed, 1, 3).chunk(2, dim=-1)
            else:
                query, key, value = _project_in(block.attn, normed, 0, 3).chunk(3, dim=-1)
            states += [key[0], value[0]]
            key, value = (
                torch.cat([state.expand(tokens.shape[0], -1, -1), now], dim=1)
                for state, now in zip(beginning[2 * index : 2 * index + 2], (key, value), strict=True)
            )
            x = x + block.ls_1(_attend(block.attn, query, key, value, mask))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return _project(model, model.ln_final(x[:, 0])), torch.stack(states)


def _ends(model: Any, pool: str, tokens: torch.Tensor) -> torch.Tensor:
    """Return where each text ends: at its highest id, or at the model's own."""
    if pool == "argmax":
        return tokens.argmax(dim=-1)
    end = int(getattr(model, "eos_id", None) or model.text_eos_id)
    return (tokens == end).to(torch.int32).argmax(dim=-1)


def _can_resume(text: Any) -> bool:
    """Whether `ResumedText` computes what a tower's blocks do: open_clip's plain ones."""
    blocks = getattr(text.transformer, "resblocks", ())
    return bool(len(blocks)) and all(
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and block.attn.in_proj_weight is not None
        and block.attn.in_proj_bias is not None
        for block in blocks
    )


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
    if mask is not None and mask.dim() == 3:
        mask = torch.unflatten(mask, 0, (-1, attention.num_heads))
    query, key, value = _project_in(attention, x, 0, 3).chunk(3, dim=-1)
    return _attend(attention, query, key, value, mask)


def _project_in(attention: nn.MultiheadAttention, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Return queries (0), keys (1) and values (2) from the first to before the last, side by side."""
    if (first, last) == (0, 3):
        return functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    part = slice(first * attention.embed_dim, last * attention.embed_dim)
    return functional.linear(x, attention.in_proj_weight[part], attention.in_proj_bias[part])


def _attend(
    attention: nn.MultiheadAttention, query: Any, key: Any, value: Any, mask: torch.Tensor | None
) -> torch.Tensor:
    heads = attention.num_heads
    query, key, value = (torch.unflatten(part, -1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = (query * attention.head_dim**-0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    out: torch.Tensor = attention.out_proj((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
    return out
