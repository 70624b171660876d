"""The text tower of `train.py`: its token table, how it begins, and what it makes of texts."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

RAREST = 2.5  # Zipf frequency of the rarest word of one token (3 is once in a million words)
OWN_DROPPED = 0.3  # how often a word's token has nothing of its own in a step of the training
MEAN_GAIN = 0.3  # how much of the mean of all tokens the first layer adds when training begins


def token_strings(tokenizer: SimpleTokenizer) -> tuple[list[str], list[int]]:
    """Return the text that each of the 49,408 tokens stands for, and which tokens are whole words of everyday use."""
    from wordfreq import zipf_frequency

    strings, words = [], []
    for position in range(tokenizer.vocab_size):
        entry = tokenizer.decoder[position]
        text = entry.removesuffix("</w>")
        raw = bytes(tokenizer.byte_decoder.get(c, ord("?")) for c in text) if not text.startswith("<") else b""
        strings.append(raw.decode("utf-8", errors="replace"))
        if entry.endswith("</w>") and re.fullmatch("[a-z]{3,}", text) and zipf_frequency(text, "en") >= RAREST:
            words.append(position)
    return strings, words


class Captions:
    """Tokens of templates filled with phrases, each part tokenised once (words are tokenised independently)."""

    def __init__(self, context_length: int) -> None:
        self.tokenizer = SimpleTokenizer(context_length=context_length)
        self.context_length = context_length
        self._parts: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        if text not in self._parts:
            self._parts[text] = self.tokenizer.encode(text.lower().strip())
        return self._parts[text]

    def __call__(self, captions: list[tuple[str, str]]) -> Tensor:
        """Return tokens ``(n, longest)`` of (template, phrase) pairs, zero padded, no longer than the context."""
        rows = []
        for template, phrase in captions:
            before, _, after = template.partition("{}")
            ids = self._encode(before) + self._encode(phrase) + self._encode(after)
            ids = ids[: self.context_length - 2]
            rows.append([self.tokenizer.sot_token_id, *ids, self.tokenizer.eot_token_id])
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens


class TokenTable(nn.Module):
    """The token table: a linear map of what is known of each token beforehand, so that unseen tokens have a place.

    The tokens of texts that are taught have something of their own beside it. Once trained it is written out as the
    ordinary table ``(n_tokens, width)``.

    Args:
        places: ``(n_tokens, width)`` where each token's word belongs, as far as that is known; zero for fragments.
        natures: ``(n_tokens, n)`` further things that are known of it.
        taught: tokens that have something of their own.
        steady: those of them that always have it: of sentences, not of things.
    """

    def __init__(self, places: Tensor, natures: Tensor, taught: Tensor, steady: Tensor) -> None:
        super().__init__()
        self.known = torch.cat([places, natures], 1)
        self.map = nn.Parameter(torch.eye(self.known.shape[1], places.shape[1]))
        with torch.no_grad():
            self.map[places.shape[1] :] = 0
        self.own = nn.Parameter(torch.zeros(len(taught) + 1, places.shape[1]))  # the last row is everybody else's
        self.place = torch.full((len(places),), len(taught))
        self.place[taught] = torch.arange(len(taught))
        self.others = torch.ones(len(taught) + 1, 1)
        self.others[-1] = 0
        self.steady = torch.zeros(len(places), 1, dtype=torch.bool)
        self.steady[steady] = True

    def forward(self, tokens: Tensor) -> Tensor:
        """Return rows ``(*tokens.shape, width)``."""
        used, places = tokens.unique(return_inverse=True)
        own = (self.own * self.others)[self.place[used]]
        if self.training:  # so that the map alone must do, as it must for tokens that are never taught
            own = own * ((torch.rand(len(used), 1) >= OWN_DROPPED) | self.steady[used])
        return (self.known[used] @ self.map + own)[places]

    def table(self) -> Tensor:
        """Return the table ``(n_tokens, width)``."""
        return (self.known @ self.map + (self.own * self.others)[self.place]).detach()


@torch.no_grad()
def begin_as_mean(model: CLIP) -> None:
    """Let the tower begin as the mean of its tokens: its first layer averages, the others add nothing yet."""
    width = model.positional_embedding.shape[1]
    for block in model.transformer.resblocks:
        block.attn.out_proj.weight.zero_()
        block.mlp.c_proj.weight.zero_()
    first = model.transformer.resblocks[0].attn
    first.in_proj_weight[2 * width :] = torch.eye(width)
    first.out_proj.weight.copy_(MEAN_GAIN * torch.eye(width))
    model.text_projection.copy_(torch.eye(*model.text_projection.shape))


def encode_tokens(model: CLIP, table: nn.Module, tokens: Tensor) -> Tensor:
    """Return unit text features ``(n, dim)`` of tokens ``(n, length)``, computing no position beyond ``length``."""
    length = tokens.shape[1]
    x = table(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection
    return F.normalize(x.float(), dim=-1)


def encode_by_length(model: CLIP, table: nn.Module, captions: Captions, lines: list[tuple[str, str]]) -> Tensor:
    """Return unit text features ``(n, dim)`` of captions, those of like length computed together."""
    tokens = captions(lines)
    order = tokens.argmax(-1).argsort()
    parts = [encode_tokens(model, table, tokens[r, : int(tokens[r].argmax(-1).max()) + 1]) for r in order.chunk(6)]
    return torch.cat(parts)[order.argsort()]


def text_parameters(model: CLIP) -> list[nn.Parameter]:
    """Return the parameters of the text tower but for its token table."""
    return [p for n, p in model.named_parameters() if not n.startswith(("visual", "token_embedding", "logit"))]


@torch.inference_mode()
def class_rows(model: CLIP, table: nn.Module, captions: Captions, words: list[str], templates: list[str]) -> Tensor:
    """Return classifier rows ``(n_words, dim)``: mean of each word's unit prompt features, renormalised."""
    lines = [(template, word) for word in words for template in templates]
    found = torch.cat([encode_by_length(model, table, captions, lines[i : i + 512]) for i in range(0, len(lines), 512)])
    return F.normalize(found.reshape(len(words), len(templates), -1).mean(1), dim=-1)
