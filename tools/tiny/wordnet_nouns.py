"""WordNet's nouns, read from the files of Debian's package `wordnet-base`, and what they say about ImageNet's classes.

A synset is known by its offset, which is the number in an ImageNet class key: `n02084071` is the synset of `dog`.
"""

from __future__ import annotations

import functools
import gzip
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
# Lexicographer files (lexnames(5WN)) whose nouns can be seen in a photograph.
VISUAL = {5: "animal", 6: "artifact", 8: "body", 13: "food", 14: "group", 15: "location", 17: "object", 18: "person"}
VISUAL |= {19: "phenomenon", 20: "plant", 27: "substance"}
# Nouns of these are seen too, but seldom: sports and other activities, printed matter.
PARTLY_VISUAL = {4: "act", 10: "communication", 11: "event"}
# Within a group a word's senses look alike (broccoli as a plant and as food); between groups they do not.
LOOKS = {5: "nature", 13: "nature", 20: "nature", 6: "thing", 14: "thing", 15: "thing", 17: "thing", 19: "thing"}
TOO_BROAD = 700  # a word that covers more of ImageNet's classes than this says nothing


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning: its words as written, what it stands below, and its definition."""

    offset: int
    file: int
    words: tuple[str, ...]
    hypernyms: tuple[int, ...]
    is_instance: bool
    definition: str


class WordNet:
    """The nouns: ``synsets`` by offset, ``senses`` of a lower-case word, most usual first, ``below`` of a synset."""

    def __init__(self, folder: Path = FOLDER) -> None:
        if not (folder / "data.noun").is_file():
            raise SystemExit(f"{folder}/data.noun is missing: apt-get install wordnet-base")
        self.synsets = {s.offset: s for s in map(_parse_synset, _lines(folder / "data.noun"))}
        self.senses: dict[str, tuple[int, ...]] = {}
        for line in _lines(folder / "index.noun"):
            fields = line.split()
            count = int(fields[2])
            self.senses[fields[0].replace("_", " ")] = tuple(int(offset) for offset in fields[-count:])
        self.below: dict[int, list[int]] = defaultdict(list)
        for synset in self.synsets.values():
            for above in synset.hypernyms:
                self.below[above].append(synset.offset)
        self.plurals = dict(_irregular_plurals(folder / "noun.exc"))

    def is_usual(self, word: str, offset: int) -> bool:
        """Say whether somebody who shows a photograph and says ``word`` means the synset ``offset``.

        That is so when no more usual sense of the word can be seen in a photograph, but for senses above or below it.
        """
        look = LOOKS.get(self.synsets[offset].file)
        for other in self.senses.get(word.lower(), ()):
            if other == offset:
                return True
            file = self.synsets[other].file
            if file in VISUAL and LOOKS.get(file, file) != look and not self._related(other, offset):
                return False
        return False

    def _related(self, one: int, other: int) -> bool:
        return one in self.ancestors(other) or other in self.ancestors(one)

    @functools.cache  # noqa: B019
    def ancestors(self, offset: int) -> frozenset[int]:
        """Return every synset above ``offset``."""
        above = self.synsets[offset].hypernyms
        return frozenset(above).union(*(self.ancestors(a) for a in above)) if above else frozenset()

    def covered(self, classes: dict[int, int]) -> dict[int, dict[int, float]]:
        """Return, for each synset above some of ``classes`` (offset -> column), how much each column counts in it.

        Siblings count the same on each level, so that a hundred breeds do not outweigh a wolf. Weights add up to 1.
        """
        found: dict[int, dict[int, float]] = {}

        def visit(offset: int) -> dict[int, float]:
            if offset in found:
                return found[offset]
            parts = [part for part in map(visit, self.below[offset]) if part]
            if offset in classes:
                parts = [{classes[offset]: 1.0}]
            weights: dict[int, float] = defaultdict(float)
            for part in parts:
                for column, weight in part.items():
                    weights[column] += weight / len(parts)
            found[offset] = dict(weights)
            return found[offset]

        for offset in classes:
            for above in self.ancestors(offset):
                visit(above)
        return {o: w for o, w in found.items() if 0 < len(w) <= TOO_BROAD and o not in classes}


def offset_of(key: str) -> int:
    """Return the offset in a class key: 2084071 for ``n02084071``."""
    return int(key.removeprefix("n"))


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.suffix != ".gz" else gzip.decompress(path.read_bytes()).decode()
    return [line for line in text.splitlines() if line and not line.startswith("  ")]


def _irregular_plurals(path: Path) -> list[tuple[str, str]]:
    pairs = (line.split()[:2] for line in _lines(path))
    return [(singular.replace("_", " "), plural.replace("_", " ")) for plural, singular in pairs]


def _parse_synset(line: str) -> Synset:
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    n_words = int(fields[3], 16)
    words = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(n_words))
    pointers = fields[4 + 2 * n_words + 1 :]
    above = [(pointers[i], int(pointers[i + 1])) for i in range(0, 4 * int(fields[4 + 2 * n_words]), 4)]
    hypernyms = tuple(offset for symbol, offset in above if symbol in ("@", "@i"))
    definition = gloss.split('; "')[0].split(";")[0].strip()
    return Synset(int(fields[0]), int(fields[1]), words, hypernyms, any(s == "@i" for s, _ in above), definition)
