"""Sizes in bytes, as people write and read them: decimal units, as disks and the hub's pages have them."""

from __future__ import annotations

import re

from ..errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b|bytes)?\s*", re.IGNORECASE | re.ASCII)


def parse_size(text: str, what: str) -> int:
    """Return the bytes of a size such as ``2GB``, ``500 MB`` or ``1.5g``; a number alone is bytes, GiB is read as GB.

    Args:
        text: As it was given.
        what: The option or variable that gave it, for errors.

    Raises:
        UsageError: It is not a size.
    """
    found = _SIZE.fullmatch(text)
    if not found or len(text) > 40:
        raise UsageError(f"{what} {text[:40]!r} is not a size", f"{what}=2GB, or 500MB")
    number, unit = found.groups()
    return int(float(number) * _UNITS[unit.lower()])


def in_bytes(count: int) -> str:
    """Write a size with three digits."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
