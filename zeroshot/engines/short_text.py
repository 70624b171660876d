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


def short_text_tower(model: Any) -> Any:
    """Return a text tower that reads only as many positions as it is given, or None where that would change it.

    A causal tower pooled at the end-of-text token (the highest id, so found by argmax) never looks beyond it, so
    that padding need not be encoded: the same features for a fifth of the work. Others read every position.
    """
    from open_clip.transformer import TextTransformer, text_global_pool

    text = getattr(model, "text", None)
    if text is None and getattr(model, "attn_mask", None) is not None and model.text_pool_type == "argmax":

        def native(tokens: Any) -> Any:
            # As open_clip.model.CLIP.encode_text, which adds the positional embedding unsliced.
            length = tokens.shape[1]
            dtype = model.transformer.get_cast_dtype()
            x = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
            x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
            x = text_global_pool(x, tokens, model.text_pool_type)
            if model.text_projection is None:
                return x
            return model.text_projection(x) if callable(model.text_projection) else x @ model.text_projection

        return native
    if (
        isinstance(text, TextTransformer)
        and text.attn_mask is not None
        and text.cls_emb is None
        and text.pool_type == "argmax"
        and not text.output_tokens
    ):
        return text
    return None
