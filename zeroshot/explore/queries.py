"""What is searched for: a sum of texts and images, as in ``beach + night - 0.5*people``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import search
from ..encoder import Features
from ..errors import LabelError
from ..search import Term

_MOST_TERMS = 32


def parse_terms(text: str) -> tuple[Term, ...]:
    """Parse a sum as `search.parse_terms` does; nothing is no term.

    Raises:
        LabelError: A term is empty, or there are too many.
    """
    terms = search.parse_terms(text) if text.strip() else ()
    if len(terms) > _MOST_TERMS:
        raise LabelError(f"a sum of {len(terms)} parts", f"{_MOST_TERMS} are the most")
    return terms


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
