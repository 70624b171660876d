"""Parses what is searched for: a sum of texts and images, as in ``beach + night - 0.5*people``."""

from __future__ import annotations

from collections.abc import Callable

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
    try:
        terms = search.parse_terms(text) if text.strip() else ()
    except LabelError as error:  # its hint is a command
        raise LabelError(error.message, "for example: beach + night - 0.5*people") from error
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
        InputError: A weight is not finite, or the parts cancel out.
        LabelError: There is nothing to add.
    """
    parts = [*parts, *((term.weight, encode(term.text)) for term in terms)]
    if not parts:
        raise LabelError("nothing to search for", "type a text, or drop an image onto the page")
    return search.add_up([weight for weight, _ in parts], [row for _, row in parts])
