"""What each word that `train.py` teaches stands for: a mixture of classes that have images or classifier rows.

Columns are classes: ImageNet's 1,000, further ones of `photos64/index.json`, and those of `photo_sources.yaml`. A
phrase names one column (`bee`), several (`dog`: every breed, siblings counting the same on each level of WordNet), or
none yet (`galaxy`): then only the sentence encoder says where it belongs.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from open_clip import IMAGENET_CLASSNAMES
from open_clip.tokenizer import SimpleTokenizer
from timm.data import ImageNetInfo
from wordnet_nouns import PARTLY_VISUAL, VISUAL, WordNet, offset_of

LATIN = re.compile(r"(the |a )?(type )?(genus|family|order|class|phylum)\b")


@dataclass(frozen=True, slots=True)
class Tables:
    """What the lexicon is made from: three tables of the project, ``photos64/index.json``, and names of things."""

    vocabulary: dict
    everyday: dict[str, str]
    index: dict[str, list[str]]
    photographs: dict[str, list[str]]
    further: list[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """``phrase`` stands for the columns in ``weights``; a smaller ``rank`` silences larger ones."""

    phrase: str
    weights: dict[int, float]
    rank: int


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words and what they stand for.

    Attributes:
        columns: class keys; the first 1,000 are the classifier's rows in order.
        phrases: phrases with a mixture, lower case.
        mixtures: ``(n_phrases, n_columns)`` float32, rows add up to 1.
        others: further nouns, lower case, that a photograph may show, and further words of one token.
        definitions: WordNet's, for each of ``phrases`` and then ``others``; empty where there is none.
        guessed: ``(n_phrases,)`` whether a phrase's mixture is `word_classes.yaml`'s alone: only what looks like it.
    """

    columns: list[str]
    phrases: list[str]
    mixtures: np.ndarray
    others: list[str]
    definitions: list[str]
    guessed: np.ndarray


class HeldOut:
    """Words that no phrase, definition or sentence of the training may hold, their plurals included."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = {word.lower() for word in words}
        self._single = {word for word in self.words if " " not in word}
        several = sorted(self.words - self._single)
        self._several = re.compile("|".join(rf"\b{re.escape(w)}(e?s)?\b" for w in several)) if several else None

    def allows(self, text: str) -> bool:
        """Say whether ``text`` is free of held-out words."""
        text = text.lower()
        if any(_singulars(word) & self._single for word in re.findall(r"[a-z0-9]+", text)):
            return False
        return not (self._several and self._several.search(text))

    def check(self, texts: Iterable[str]) -> int:
        """Assert that no text holds a held-out word; return how many texts were looked at."""
        count = 0
        for text in texts:
            assert self.allows(text), f"held-out word in {text!r}"
            count += 1
        return count


def _singulars(word: str) -> set[str]:
    found = {word}
    for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending):
            found.add(word.removesuffix(ending) + replacement)
    return found


def clean_name(name: str) -> str:
    """Return a class name as a user would type it: ``kite`` for ``kite (bird of prey)``, lower case."""
    return re.sub(r"\s*\(.*?\)", "", name).strip().lower()


class LexiconBuilder:
    """Collects what every source says of a phrase, then settles it."""

    def __init__(self, wordnet: WordNet, tables: Tables, held: HeldOut, without: frozenset[int] = frozenset()) -> None:
        self.wordnet, self.held, self.without = wordnet, held, without
        spec, index, photographs = tables.vocabulary, tables.index, tables.photographs
        self.everyday, self.further = tables.everyday, set(tables.further)
        self.imagenet = ImageNetInfo().label_names()
        self.columns = [*self.imagenet, *(k for k in index if k not in set(self.imagenet))]
        self.columns += [f"photo:{key}" for key in photographs]
        self.at = {key: i for i, key in enumerate(self.columns)}
        self.spec, self.index, self.photographs = spec, index, photographs
        self.offsets = {offset_of(k): i for k, i in self.at.items() if re.fullmatch(r"n\d+", k)}

    def build(self) -> Lexicon:
        """Return the lexicon."""
        claims: dict[str, list[Claim]] = defaultdict(list)
        for claim in [*self.class_names(), *self._broader_words(), *self._table()]:
            claims[claim.phrase].append(claim)
        rows = {phrase: self._settle(found) for phrase, found in claims.items()}
        everyday = self._everyday(rows)
        rows |= everyday
        for phrase, own in self._photographs().items():
            rows[phrase] = (rows[phrase] + own) / 2 if phrase in rows else own
        rows = {phrase: row for phrase, row in rows.items() if self.held.allows(phrase) and row.any()}
        phrases = sorted(rows)
        guessed = np.array([phrase in everyday.keys() - self._photographs().keys() for phrase in phrases])
        mixtures = np.stack([rows[phrase] / rows[phrase].sum() for phrase in phrases])
        others = self._other_words(set(phrases))
        definitions = [self._definition(phrase) for phrase in [*phrases, *others]]
        self.held.check([*phrases, *others, *definitions])
        return Lexicon(self.columns, phrases, mixtures, others, definitions, guessed)

    def _settle(self, claims: list[Claim]) -> np.ndarray:
        """Return the row ``(n_columns,)`` of the claims with the smallest rank."""
        row = np.zeros(len(self.columns), np.float32)
        best = min(claim.rank for claim in claims)
        for claim in claims:
            if claim.rank == best:
                for column, weight in claim.weights.items():
                    row[column] += weight
        row[sorted(self.without)] = 0
        return row / max(row.sum(), 1e-9)

    def _everyday(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the rows of everyday words, each the mean of the rows of the words that it is made of."""
        found = {}
        for word, line in self.everyday.items():
            parts = [part.strip() for part in str(line).split(",")]
            unknown = [part for part in parts if part not in rows]
            if unknown:
                raise ValueError(f"word_classes.yaml: {word}: no class or word is called {', '.join(unknown)}")
            found[word] = np.mean([rows[part] for part in parts], axis=0)
        return found

    def class_names(self) -> Iterator[Claim]:
        """Yield the names of single classes: open_clip's, WordNet's and those of the thumbnails' index."""
        dropped = set(self.spec["drop_names"])
        for column, name in enumerate(IMAGENET_CLASSNAMES):
            names = {part.strip().lower() for part in clean_name(name).split(" / ")}
            for usual in names | {clean_name(name).replace(" / ", " or ")}:
                yield Claim(usual, {column: 1.0}, 0)
        for offset, column in self.offsets.items():
            for word in self.wordnet.synsets[offset].words:
                if word.lower() not in dropped and self.wordnet.is_usual(word, offset):
                    yield Claim(word.lower(), {column: 1.0}, 1)
        for key, names in self.index.items():
            if key in self.at:
                entry = self.spec["classes"][key]
                for name in [*names[:1], *entry.get("names", [])]:
                    if name not in dropped:
                        yield Claim(
                            name.lower(),
                            {self.at[key]: 1.0},
                            0 if name == names[0] and not key.startswith("cifar") else 2,
                        )

    def _broader_words(self) -> Iterator[Claim]:
        for offset, weights in self.wordnet.covered(self.offsets).items():
            # Between each class the same and each sibling the same: neither breeds nor a lone species should prevail.
            total = sum(weight**0.5 for weight in weights.values())
            shares = {column: weight**0.5 / total for column, weight in weights.items()}
            for word in self.wordnet.synsets[offset].words:
                if self.wordnet.is_usual(word, offset):
                    yield Claim(word.lower(), shares, 1)

    def _table(self) -> Iterator[Claim]:
        """Yield what the project's own table says: groups and broader words of the thumbnails' classes."""
        members: dict[str, set[int]] = defaultdict(set)
        for key, entry in self.spec["classes"].items():
            if key in self.at:
                for word in [entry["group"], *self.spec["groups"][entry["group"]], *entry.get("broader", [])]:
                    members[word.lower()].add(self.at[key])
        for word, columns in members.items():
            yield Claim(word, dict.fromkeys(columns, 1 / len(columns)), 2)

    def _photographs(self) -> dict[str, np.ndarray]:
        """Return the rows of the words that photographs have; a word of several classes is their mean."""
        columns: dict[str, list[int]] = defaultdict(list)
        for key, words in self.photographs.items():
            for word in words:
                columns[word.lower()].append(self.at[f"photo:{key}"])
        found = {}
        for word, own in columns.items():
            found[word] = np.zeros(len(self.columns), np.float32)
            found[word][own] = 1 / len(own)
        return found

    def _other_words(self, known: set[str]) -> list[str]:
        """Return further words: nouns that a photograph may show, and words of one token."""
        from wordfreq import zipf_frequency

        single = {token.removesuffix("</w>") for token in SimpleTokenizer().encoder if token.endswith("</w>")}
        files: dict[str, set[int]] = defaultdict(set)
        for synset in self.wordnet.synsets.values():
            if not synset.is_instance and not LATIN.match(synset.definition):
                for word in synset.words:
                    files[word.lower()].add(synset.file)
        found = []
        for word in sorted({*files, *single, *self.further} - known):
            parts = re.split(r"[ \-]", word)
            if not all(parts) or not re.fullmatch(r"[a-z' \-]{3,}", word) or parts[0] in ("genus", "family", "order"):
                continue
            least = 2.0 if files[word] & set(VISUAL) else 3.0 if word in single else 9.0
            usual = word in self.further or min(zipf_frequency(part, "en") for part in parts) >= least
            if usual and self.held.allows(word):
                found.append(word)
        return found

    def _definition(self, phrase: str) -> str:
        for offset in self.wordnet.senses.get(phrase, ()):
            synset = self.wordnet.synsets[offset]
            if synset.file in VISUAL | PARTLY_VISUAL and not synset.is_instance:
                return synset.definition if self.held.allows(synset.definition) else ""
        return ""


def held_out_words(spec: dict) -> list[str]:
    """Return the held-out synonyms in the table ``vocabulary.yaml``."""
    return [word for entry in spec["classes"].values() for word in entry.get("held_out", [])]


def read_tables(tools: Path, data: Path, photographs: dict[str, list[str]], further: Iterable[str] = ()) -> Tables:
    """Return the tables in ``tools``, the index of the thumbnails in ``data``, the photographs' and further words."""
    # Words are words: `no` and `on` are no truth values here.
    vocabulary, everyday = (
        yaml.load((tools / name).read_text(), yaml.BaseLoader) for name in ("vocabulary.yaml", "word_classes.yaml")
    )
    index = json.loads((data / "photos64" / "index.json").read_text())["classes"]
    return Tables(vocabulary, everyday, index, photographs, list(further))
