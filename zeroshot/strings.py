"""Arguments that are one string or several. Imports nothing, so that commands that only list stay quick."""

from __future__ import annotations

from collections.abc import Iterable


def as_many(given: str | Iterable[str]) -> Iterable[str]:
    """Return several strings as they are, and one as a list of it: Python would walk it by its characters."""
    return [given] if isinstance(given, str) else given
