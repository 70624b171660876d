"""Text of messages, safe to show; one text or several. Imports nothing, so that what only lists is quick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def as_many(given: str | Iterable[str]) -> Iterable[str]:
    """Return several strings as they are, and one as a list of it: Python would walk it by its characters."""
    return [given] if isinstance(given, str) else given


def printable(text: str) -> str:
    """Escape what a terminal would act on: control characters and undecodable bytes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def shell_word(text: str) -> str:
    r"""Return a word as a shell takes it and a terminal may show it: ``'two words'``, ``$'a\nb'``."""
    import shlex

    return shlex.quote(text) if text.isprintable() else f"$'{''.join(map(_in_quotes, text))}'"


def _in_quotes(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    return f"\\x{number:02x}" if number < 0x80 else f"\\U{number:08x}"


def some_of(items: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """Return the first items of many, and how many more there are."""
    return separator.join(items[:most]) + (f" {and_more(len(items) - most)}" if len(items) > most else "")


def count_of(count: int, noun: str) -> str:
    """Return ``1 label`` or ``2 labels``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def and_more(count: int, noun: str = "") -> str:
    """Return ``and N more``, with what they are."""
    return f"and {count} more" + (f" {noun}" if noun else "")
