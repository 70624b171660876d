"""What is searched for: a sum of texts and images, as in ``beach + night - 0.5*people``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..encoder import Features
from ..errors import LabelError

_SIGN = re.compile(r"(?:^|\s)([+-])")
_WEIGHT = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*[*×]\s*")
_MOST_TERMS = 32


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the sum.

    Attributes:
        weight: What its features are multiplied by; below 0 for "less of this".
        text: What it says.
    """

    weight: float
    text: str


def parse_terms(text: str) -> tuple[Term, ...]:
    """Parse a sum; a sign follows a space, so that ``x-ray`` is a word.

    Raises:
        LabelError: A term is empty, or there are too many.
    """
    if not text.strip():
        return ()
    parts = _SIGN.split(text.strip())
    # A text that begins with a sign has nothing before it.
    signed = [("+", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    if not parts[0].strip() and len(signed) > 1:
        signed = signed[1:]
    terms: list[Term] = []
    for sign, words in signed:
        found = _WEIGHT.match(words.strip())
        weight = float(found.group(1)) if found else 1.0
        rest = " ".join(words.strip()[found.end() if found else 0 :].split())
        if not rest:
            raise LabelError(f"a part of the sum is empty after {sign!r}", "beach + night - 0.5*people")
        terms.append(Term(-weight if sign == "-" else weight, rest))
    if len(terms) > _MOST_TERMS:
        raise LabelError(f"a sum of {len(terms)} parts", f"{_MOST_TERMS} are the most")
    return tuple(terms)


def add_up(parts: list[tuple[float, Features]], encode: Callable[[str], Features], terms: tuple[Term, ...]) -> Features:
    """Return the unit row of a weighted sum of unit rows, shape ``(dim,)``.

    Args:
        parts: Weights and rows of images.
        encode: Gives a text's row.
        terms: The texts.

    Raises:
        LabelError: There is nothing to add, or the parts cancel out.
    """
    parts = [*parts, *((term.weight, encode(term.text)) for term in terms)]
    if not parts:
        raise LabelError("nothing to search for", "type a text, or drop an image onto the page")
    total = np.sum([np.float32(weight) * row for weight, row in parts], axis=0)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise LabelError("the parts of the sum cancel out", "change a weight")
    return np.asarray(total / length, dtype=np.float32)
