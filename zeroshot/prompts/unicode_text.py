"""Normalise spelling: NFC, no zero-width characters; control characters are refused."""

from __future__ import annotations

import unicodedata

from ..errors import LabelError
from ..messages import some_of

_INVISIBLE = frozenset("\u00ad\u200b\u200e\u200f\u2060\ufeff")
"""Soft hyphen, zero-width space, direction marks, word joiner, byte order mark."""

_JOINERS = frozenset("\u200c\u200d")
"""Zero-width non-joiner and joiner: part of the spelling after a letter or emoji beyond ASCII, else as above."""


def clean_word(word: str) -> str:
    """Return a label's word in Unicode's composed form (NFC), its spaces folded and without zero-width characters.

    Raises:
        LabelError: It holds a control character, as text of another encoding does.
    """
    folded = " ".join(word.split())
    if folded.isascii() and folded.isprintable():  # most are, and nothing of the rest is in them
        return folded
    if control := next((character for character in folded if unicodedata.category(character) == "Cc"), ""):
        raise LabelError(
            f"{folded[:40]!r} holds the control character U+{ord(control):04X}",
            "remove it; a file is read as UTF-8, so save one of another encoding (UTF-16, say) as UTF-8",
        )
    kept = [
        character
        for before, character in zip(["", *folded], folded, strict=False)
        if character not in _INVISIBLE and not (character in _JOINERS and before.isascii())
    ]
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def without_zero_width(text: str) -> str:
    """Return a text without any zero-width character, for comparing."""
    if text.isascii():
        return text
    return "".join(character for character in text if character not in _INVISIBLE and character not in _JOINERS)


def show_spellings(words: list[str]) -> str:
    """Return the spellings of what became equal, escaped where they would look the same."""
    alike = len({unicodedata.normalize("NFC", word) for word in words}) < len(set(words))
    return some_of([ascii(word) if alike else repr(word) for word in words], separator=" = ")
