"""Sentences to token ids, as open_clip's tokenizers make them, without importing open_clip (and so torch).

`BytePairTokenizer` is open_clip's SimpleTokenizer in plain Python. The `tokenizers` library was considered for it:
its own cleaning, its handling of control tokens inside a text and its merge order differ in corners, and building it
from 49,000 merges takes longer than the tables below. A prompt ensemble repeats its words thousands of times, so
remembering each word's ids is what makes it fast. `HuggingFaceTokenizer` runs a ``tokenizer.json`` for the families
whose vocabulary is not CLIP's.
"""

from __future__ import annotations

import itertools
import re
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..models import open_clip_tables

TokenIds = npt.NDArray[np.int64]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MERGES = 49152 - 256 - 2  # what open_clip reads of the vocabulary file, which holds more
_CONTROL = ("<start_of_text>", "<end_of_text>")
# On ASCII text the standard library's expression equals the Unicode one below, which needs the `regex` package.
_ASCII_WORDS = r"""<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+"""
_UNICODE_WORDS = r"""<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


class _Pattern(Protocol):
    def findall(self, string: str, /) -> list[str]: ...


def _is_plain(text: str) -> bool:
    """Whether fixing the encoding and resolving HTML entities would leave a text as it is."""
    return text.isascii() and text.isprintable() and "&" not in text


def _mend(text: str) -> str:
    if _is_plain(text):
        return text.strip()
    import html

    import ftfy  # most labels are plain, and importing it costs a tenth of a second

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_mend(text).split())


def _lower(text: str) -> str:
    if _is_plain(text):
        return " ".join(text.lower().split())
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    return " ".join(_mend(text).replace("_", " ").translate(_PUNCTUATION).lower().split())


# open_clip's names for its ways of cleaning a text.
CLEANERS: Mapping[str, Callable[[str], str]] = {
    "lower": _lower,
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
}


def _cleaner(name: str) -> Callable[[str], str]:
    if name not in CLEANERS:
        raise ModelError(f"the tokenizer's cleaning {name!r} is unknown", "use --engine torch")
    return CLEANERS[name]


class Tokenizer(ABC):
    """Turns sentences into the rows of ids that a text tower reads.

    Attributes:
        context_length: Tokens in a row, special ones included.
        pad_id: What fills a row after its sentence.
        special_tokens: Spellings that are read as control tokens inside a sentence.
    """

    context_length: int
    pad_id: int
    special_tokens: tuple[str, ...]

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> TokenIds:
        """Return ids, shape ``(n_texts, context_length)``, truncated and padded as open_clip does."""

    @abstractmethod
    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation, special ones included."""


class BytePairTokenizer(Tokenizer):
    """open_clip's SimpleTokenizer: CLIP's byte-pair encoding (https://arxiv.org/abs/1508.07909) with its cleaning.

    Args:
        context_length: Tokens in a row, special ones included.
        clean: Name in `CLEANERS`.
    """

    def __init__(self, context_length: int = 77, clean: str = "lower") -> None:
        self.context_length = context_length
        self.pad_id = 0
        self.special_tokens = _CONTROL
        self._clean = _cleaner(clean)
        self._ranks, self._ids = _vocabulary()
        self._start, self._end = (self._ids[token] for token in _CONTROL)
        self._known: dict[str, list[int]] = {token: [self._ids[token]] for token in _CONTROL}

    def encode(self, texts: Sequence[str]) -> TokenIds:
        """Return ids, shape ``(n_texts, context_length)``; the last id of a truncated row is the end of text."""
        start, end = [self._start], [self._end]
        every = [
            [*start, *itertools.chain.from_iterable(parts), *end][: self.context_length]
            for parts in self._parts_of_each(texts)
        ]
        lengths = np.fromiter(map(len, every), dtype=np.intp, count=len(every))
        rows = np.zeros((len(texts), self.context_length), dtype=np.int64)
        rows[np.arange(self.context_length) < lengths[:, None]] = list(itertools.chain.from_iterable(every))
        rows[np.arange(len(rows)), lengths - 1] = self._end
        return rows

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation, start and end of text included."""
        return [2 + sum(map(len, parts)) for parts in self._parts_of_each(texts)]

    def _parts_of_each(self, texts: Sequence[str]) -> Iterator[Iterable[list[int]]]:
        """Yield the ids of each text's parts; plain texts, as most are, are cleaned together."""
        joined = "\n".join(texts)
        together = self._clean is _lower and joined.count("\n") == len(texts) - 1
        if not (together and _is_plain(joined.replace("\n", " "))):
            yield from map(self._parts, texts)
            return
        joined = joined.lower()
        self._learn(set(joined.split()).difference(self._known), _ascii_words().findall)
        for line in joined.split("\n"):
            yield map(self._known.__getitem__, line.split())

    def _parts(self, text: str) -> list[list[int]]:
        """Return the ids of a text's parts, from what is remembered of each where it was met before."""
        text = self._clean(text)
        # No word reaches across a space, which is all the white space that cleaning leaves.
        parts = text.split(" ") if text.isascii() else _unicode_words().findall(text)
        self._learn(
            dict.fromkeys(part for part in parts if part not in self._known),
            _ascii_words().findall if text.isascii() else lambda part: [part],
        )
        return [self._known[part] for part in parts]

    def _learn(self, parts: Iterable[str], words_of: Callable[[str], list[str]]) -> None:
        for part in parts:
            self._known[part] = [one for word in words_of(part) for one in self._merged(word)]

    def _merged(self, word: str) -> list[int]:
        return self._known[word] if word in _CONTROL else self._merge(word)

    def _merge(self, word: str) -> list[int]:
        """Join a word's bytes into the vocabulary's pieces, the earliest learned pair first."""
        spelling = _byte_spellings()
        pieces = [spelling[byte] for byte in word.encode("utf-8")]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            pairs = [f"{left} {right}" for left, right in itertools.pairwise(pieces)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, _MERGES))
            if best not in self._ranks:
                break
            joined, i = [], 0
            while i < len(pieces):
                if i < len(pairs) and pairs[i] == best:
                    joined.append(pieces[i] + pieces[i + 1])
                    i += 2
                else:
                    joined.append(pieces[i])
                    i += 1
            pieces = joined
        return [self._ids[piece] for piece in pieces]


class HuggingFaceTokenizer(Tokenizer):
    """open_clip's HFTokenizer on a ``tokenizer.json``, without transformers.

    The settings that transformers keeps outside that file come from its loaded tokenizer when a model is exported,
    where the ids of both are compared before the export is accepted.

    Args:
        path: The ``tokenizer.json``.
        context_length: Tokens in a row, special ones included.
        clean: Name in `CLEANERS`.
        pad_id: Id of the padding token.
        padding_side: ``right`` or ``left``.
        truncation_side: ``right`` or ``left``.
        zeroed_id: Id that is replaced by 0 (open_clip's ``strip_sep_token``); None for none.
    """

    def __init__(
        self,
        path: Path,
        *,
        context_length: int,
        clean: str,
        pad_id: int,
        padding_side: str = "right",
        truncation_side: str = "right",
        zeroed_id: int | None = None,
    ) -> None:
        from tokenizers import Tokenizer as Backend

        self.context_length = context_length
        self.pad_id = pad_id
        self._clean = _cleaner(clean)
        self._padding_side = padding_side
        self._truncation_side = truncation_side
        self._zeroed_id = zeroed_id
        try:
            self._backend: Any = Backend.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"the tokenizer {path} cannot be read: {error}", "use --engine torch") from error
        added = self._backend.get_added_tokens_decoder()
        self.special_tokens = tuple(token.content for _, token in sorted(added.items()) if token.special)

    def encode(self, texts: Sequence[str]) -> TokenIds:
        """Return ids, shape ``(n_texts, context_length)``, truncated and padded as transformers does."""
        self._backend.enable_truncation(self.context_length, direction=self._truncation_side)
        encodings = self._backend.encode_batch([self._clean(text) for text in texts])
        rows = np.full((len(texts), self.context_length), self.pad_id, dtype=np.int64)
        for row, encoding in zip(rows, encodings, strict=True):
            ids = encoding.ids
            if self._padding_side == "left":
                row[self.context_length - len(ids) :] = ids
            else:
                row[: len(ids)] = ids
        if self._zeroed_id is not None:
            rows[rows == self._zeroed_id] = 0
        return rows

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation, special ones included."""
        self._backend.no_truncation()
        return [len(encoding.ids) for encoding in self._backend.encode_batch([self._clean(text) for text in texts])]


@cache
def _ascii_words() -> _Pattern:
    return re.compile(_ASCII_WORDS, re.IGNORECASE | re.ASCII)


@cache
def _unicode_words() -> _Pattern:
    import regex  # type: ignore[import-untyped]  # only texts beyond ASCII need its \p{...} classes

    pattern: _Pattern = regex.compile(_UNICODE_WORDS, regex.IGNORECASE)
    return pattern


@cache
def _byte_spellings() -> tuple[str, ...]:
    """Return how the vocabulary spells each byte: itself where it is printable, else a character above 255."""
    spare = iter(range(256, 512))
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    return tuple(chr(byte if byte in printable else next(spare)) for byte in range(256))


@cache
def _vocabulary() -> tuple[dict[str, int], dict[str, int]]:
    """Return the merges' ranks by ``"left right"``, and the ids by piece.

    Both are built from whole-file string operations: 49,000 splits in a loop would take ten times as long.
    """
    import gzip

    packed = open_clip_tables.bpe_vocabulary().read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    spellings = _byte_spellings()
    # The vocabulary lists the bytes that spell themselves first, then the others.
    single = [*sorted(filter(lambda piece: ord(piece) < 256, spellings)), *sorted(s for s in spellings if ord(s) > 255)]
    joined = "\n".join(merges).replace(" ", "").split("\n")
    pieces = [*single, *(piece + "</w>" for piece in single), *joined, *_CONTROL]
    return dict(zip(merges, range(len(merges)), strict=True)), dict(zip(pieces, range(len(pieces)), strict=True))
