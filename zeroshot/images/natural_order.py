"""Natural order: 2 before 10."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

_NUMBER = re.compile(r"\d+")
_SHAPE = {code: ("0" if chr(code).isdigit() else "a") for code in range(128) if chr(code) != "\n"}
"""Leaves of a text where its digits stand."""
_END = f"\0{chr(sys.maxunicode)}"
"""Stands between two texts in a key: behind any number, before any letter."""


def natural_key(name: str) -> tuple[str, str]:
    """Return a key for natural order: ``2.jpg`` before ``10.jpg``, case ignored, then exactly."""
    return _NUMBER.sub(_number_key, name.casefold()), name


def in_natural_order(names: Sequence[str]) -> Sequence[str]:
    """Sort names as `natural_key` does.

    Those whose numbers stand in the same places with the same widths are in natural order when they are in that of
    text, which takes a tenth of the time.
    """
    text = "\n".join(names)
    folded = text.casefold()
    if not folded.isascii() or folded.count("\n") != len(names) - 1:
        return sorted(names, key=natural_key)
    shapes = folded.translate(_SHAPE).split("\n")
    if shapes.count(shapes[0]) < len(shapes):
        return sorted(names, key=natural_key)
    return [name for _, name in sorted(zip(folded.split("\n"), names, strict=True))]


def _number_key(found: re.Match[str]) -> str:
    """Spell a number so that text compares as numbers do: before any letter, and of two the longer is the greater."""
    number = found[0]
    if not number.isascii():  # digits of other scripts are text, and compared apart from the text around them
        before, after = found.start() > 0, found.end() < len(found.string)
        return f"{_END * before}{number}{_END * after}"
    digits = number.lstrip("0")
    return f"\0{chr(1 + len(digits))}{digits}"
