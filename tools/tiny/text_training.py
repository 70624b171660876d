"""The text side of `train.py`: what each word is to become, in which sentences, and the tower's training."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.model import CLIP
from text_tower import TokenTable, text_parameters
from torch import Tensor, nn
from tqdm import tqdm


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
