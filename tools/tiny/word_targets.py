"""Where words belong in the joint space of `train.py`: their mixtures, and estimates for words without images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from sentence_vectors import Vectors, joined, kernel_ridge, minilm_folder, mpnet_folder
from text_tower import token_strings
from torch import Tensor
from word_mixtures import Lexicon

NATURES = 64  # directions that are kept of what the smaller sentence encoder makes of tokens
CLIP_SHARPNESS, CLIP_SHARE = 3.0, 0.6  # of estimates from CLIP's vectors, and how much they count


@dataclass(frozen=True, slots=True)
class Geometry:
    """What sentence encoders know: unit rows of all words, and of those tokens that are words.

    Attributes:
        words: ``(n_words, n)`` of the lexicon's phrases and other words, each alone and with its definition.
        alone: ``(n_phrases, m)`` of the phrases alone.
        tokens: ``(n_tokens, m)`` alone, zero where a token is no word.
        natures: ``(n_tokens, NATURES)`` what the smaller encoder makes of each token's text, its main directions.
        clip_words, clip_tokens: ``(n_words, 512)`` and ``(n_tokens, 512)`` what CLIP makes of them, zero where unknown.
    """

    words: Tensor
    alone: Tensor
    tokens: Tensor
    natures: Tensor
    clip_words: Tensor
    clip_tokens: Tensor


def read_geometry(lexicon: Lexicon, clip: dict[str, np.ndarray], work: Path) -> Geometry:
    """Return the sentence encoders' vectors, kept in ``work``, and those of ``clip``."""
    small, large = Vectors(work, "minilm", minilm_folder), Vectors(work, "mpnet", mpnet_folder)
    words = [*lexicon.phrases, *lexicon.others]
    defined = [f"{w}: {d}" if d else w for w, d in zip(words, lexicon.definitions, strict=True)]
    strings, usual = token_strings(open_clip.tokenizer.SimpleTokenizer())
    natures = small(strings)
    natures = natures - natures.mean(0)
    _, _, basis = torch.linalg.svd(natures[usual], full_matrices=False)
    natures = natures @ basis[:NATURES].T
    tokens = torch.zeros(len(strings), small(words[:1]).shape[1] + large(words[:1]).shape[1])
    texts = [strings[i] for i in usual]
    tokens[usual] = joined(small(texts), large(texts))
    n = len(lexicon.phrases)
    alone = joined(small(words[:n]), large(words[:n]))
    rows = {word: torch.from_numpy(row) for word, row in clip.items()}
    nothing, wholes = torch.zeros(len(next(iter(rows.values())))), set(usual)
    return Geometry(
        joined(small(words), small(defined), large(words)),
        alone,
        tokens,
        natures,
        torch.stack([rows.get(word, nothing) for word in words]),
        torch.stack([rows.get(text, nothing) if i in wholes else nothing for i, text in enumerate(strings)]),
    )


class Places:
    """Where words belong in the joint space: known from their mixtures, or estimated from what encoders make of them.

    Args:
        named: ``(n_phrases, dim)`` unit rows, where the phrases' mixtures lie.
        guessed: ``(n_phrases,)`` whether that is only what looks like the phrase.
        geometry: what encoders make of words and tokens.
    """

    def __init__(self, named: Tensor, guessed: Tensor, geometry: Geometry) -> None:
        self.geometry, self.n, self.named, self.guessed = geometry, len(named), named, guessed
        self.mean = self.named[~self.guessed].mean(0)
        self.spread = (self.named - self.mean).norm(dim=1).mean()

    def _estimate(self, known: Tensor, rows: Tensor, clip_rows: Tensor) -> Tensor:
        """Return directions ``(n, dim)`` from the mean, short where nothing known is near, by all encoders."""
        firm, clip_known = ~self.guessed, self.geometry.clip_words[: self.n]
        found = kernel_ridge(known[firm], self.named[firm], rows)
        seen, both = clip_rows.any(1), firm & clip_known.any(1)
        by_clip = kernel_ridge(clip_known[both], self.named[both], clip_rows[seen], CLIP_SHARPNESS)
        lengths = found[seen].norm(dim=1, keepdim=True)
        mixed = CLIP_SHARE * F.normalize(by_clip, dim=1) + (1 - CLIP_SHARE) * F.normalize(found[seen], dim=1)
        found[seen] = F.normalize(mixed, dim=1) * lengths.maximum(lengths.mean())
        return found

    def words(self) -> Tensor:
        """Return where all words of the lexicon belong, unit rows ``(n_words, dim)``."""
        geometry, n = self.geometry, self.n
        directions = F.normalize(self._estimate(geometry.words[:n], geometry.words, geometry.clip_words), dim=1)
        own = F.normalize(self.named - self.mean, dim=1)
        # What merely looks like a word says half of it where CLIP knows the word, and all of it otherwise.
        halved = self.guessed & geometry.clip_words[:n].any(1)
        named = torch.where(halved[:, None], F.normalize(own + directions[:n], dim=1), own)
        # The mean belongs to all alike: without it a word would lose against those of which there are images.
        return F.normalize(self.mean + self.spread * torch.cat([named, directions[n:]]), dim=1)

    def tokens(self) -> Tensor:
        """Return where each token's word lies from the mean, ``(n_tokens, dim)``: about unit rows, zero for others."""
        geometry, known = self.geometry, self.geometry.tokens.any(1)
        places = torch.zeros(len(known), self.named.shape[1])
        places[known] = self._estimate(geometry.alone, geometry.tokens[known], geometry.clip_tokens[known])
        return places / places[known].norm(dim=1).mean()
