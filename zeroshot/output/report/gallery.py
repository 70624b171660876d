"""Images with their answers, chosen so that each label is there, and the tabs that narrow them."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_IMAGES = 5000
"""Images in a page: under 30 MB."""

MAX_RANKED = 20
"""Probabilities that an image comes with, best first."""


@dataclass(frozen=True, slots=True)
class Card:
    """One image in the gallery.

    Attributes:
        path: As the user gave it.
        answer: The label given; None for "unknown".
        probability: The best label's probability, in [0, 1].
        verdict: ``right``, ``wrong``, ``known`` or ``unknown``.
        views: Keys of the tabs it stands in, apart by spaces.
        top: Keys and probabilities of the best labels, best first.
        answer_key: Index of the answer's name in the gallery's names; None for "unknown".
        given_key: Index of the true label's name; None where none is known.
        given: The true label, where that is another one; empty otherwise.
        note: A sentence below; empty for none.
    """

    path: str
    answer: str | None
    probability: float
    verdict: str
    views: str
    top: tuple[tuple[int, float], ...] = ()
    answer_key: int | None = None
    given_key: int | None = None
    given: str = ""
    note: str = ""

    @property
    def percent(self) -> str:
        """The probability as text."""
        return f"{100 * self.probability:.1f}%"

    @property
    def confidence(self) -> str:
        """The probability in percent, for the script."""
        return f"{100 * self.probability:.3f}"

    @property
    def ranked(self) -> str:
        """The best labels for the script: ``key:percent``, apart by spaces."""
        return " ".join(f"{key}:{100 * probability:.3g}" for key, probability in self.top)

    @property
    def json_path(self) -> str:
        """The exact path, in ASCII: what is shown spells out invisible characters."""
        return json.dumps(self.path)

    @property
    def words(self) -> str:
        """The card in words, for those who do not see the image."""
        answer = f"answer {self.answer}" if self.answer is not None else "unknown"
        given = f", given {self.given}" if self.given else ""
        return f"{self.path}: {answer}, {self.percent}{given}"


@dataclass(frozen=True, slots=True)
class View:
    """A tab: its key, title, number of images, and the order it begins with."""

    key: str
    title: str
    count: int
    sort: str = "unsure"


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the gallery shows.

    Attributes:
        cards: In the order in which they stand without the script.
        thumbnails: ``data:`` addresses by path.
        names: Labels by key.
        views: Tabs; the first is open.
        has_given: True labels are known, and can be filtered by.
    """

    cards: Sequence[Card]
    thumbnails: Mapping[str, str]
    names: Sequence[str]
    views: Sequence[View]
    has_given: bool = False


class Sample(Generic[T]):
    """Keeps a bounded number of items, as even among groups as their sizes allow.

    Half of a group's share goes to its most interesting items, the other half to random ones: doubtful items are
    found, and the others are still seen.

    Args:
        limit: Number of items in the sample; memory holds up to twice as many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._groups: defaultdict[object, list[tuple[float, float, int, T]]] = defaultdict(list)
        self._size = 0
        self._seen = 0
        self._random = random.Random(0)

    def add(self, group: object, interest: float, item: T) -> None:
        """Take an item; the lower ``interest``, the more likely it is in the sample."""
        self._groups[group].append((interest, self._random.random(), self._seen, item))
        self._seen += 1
        self._size += 1
        if self._size > 2 * self._limit:
            self._prune()

    def items(self) -> list[T]:
        """Return the sample, in the order in which items were added."""
        if self._size > self._limit:
            self._prune()
        kept = sorted((entry for group in self._groups.values() for entry in group), key=lambda entry: entry[2])
        return [entry[3] for entry in kept[: self._limit]]

    def _prune(self) -> None:
        share = _even_share([len(group) for group in self._groups.values()], self._limit)
        for key, group in self._groups.items():
            if len(group) <= share:
                continue
            group.sort(key=lambda entry: entry[0])
            half = (share + 1) // 2
            self._groups[key] = group[:half] + sorted(group[half:], key=lambda entry: entry[1])[: share - half]
        self._size = sum(map(len, self._groups.values()))


def _even_share(sizes: Sequence[int], limit: int) -> int:
    """Return the largest share per group, at least 1, such that all groups together have at most ``limit``."""
    left = limit
    for place, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - place)
        if size > share:
            return max(1, share)
        left -= size
    return max(sizes, default=1)
