"""A text tower that encodes a sentence at the length it has, where padding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np


def by_length(tokens: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the order of token rows by length, and the lengths: positions up to the highest id, end-of-text."""
    if not len(tokens):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    lengths = tokens.argmax(dim=-1).numpy() + 1
    return np.argsort(lengths, kind="stable"), lengths


def unpadded_text_tower(model: Any) -> Any:
    """Return a text tower that reads only as many positions as it is given, or None where that would change it.

    A causal tower pooled at the end-of-text token (the highest id, so found by argmax) never looks beyond it, so
    that padding need not be encoded: the same features for a fifth of the work. Others read every position.
    """
    from open_clip.transformer import TextTransformer, text_global_pool

    text = getattr(model, "text", model)  # open_clip.model.CLIP carries its text tower's parts itself
    pool = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
    if pool != "argmax" or getattr(text, "attn_mask", None) is None:
        return None
    plain = isinstance(text, TextTransformer) and text.cls_emb is None and not text.output_tokens
    if text is not model and (not plain or text.use_pad_mask):
        return None

    def encode(tokens: Any) -> Any:
        # As open_clip.model.CLIP.encode_text and TextTransformer.forward, which slice neither mask nor positions.
        length = tokens.shape[1]
        dtype = text.transformer.get_cast_dtype()
        x = text.token_embedding(tokens).to(dtype) + text.positional_embedding[:length].to(dtype)
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, pool)
        if text.text_projection is None:
            return x
        return text.text_projection(x) if callable(text.text_projection) else x @ text.text_projection

    return encode
