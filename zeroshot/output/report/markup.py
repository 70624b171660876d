"""HTML and SVG that nothing can break out of: every string is escaped unless this module made it."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "img", "input", "meta", "link", "hr"})


class Safe(str):
    """Markup that is already escaped. Only `tag` and `join` make it, and callers for constants of their own."""

    __slots__ = ()


Content = str | float | int | None


def escape(text: Content) -> Safe:
    """Return text as markup: special characters become references, and invisible ones are spelled out.

    Control and direction characters in a file's name would otherwise vanish or turn the text around; bytes that are
    no UTF-8 could not be written at all.
    """
    if isinstance(text, Safe):
        return text
    shown = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "backslashreplace").decode()
        for c in ("" if text is None else str(text))
    )
    return Safe(html.escape(shown, quote=True))


def tag(element: str, /, *children: Content, **attributes: str | float | int | bool | None) -> Safe:
    """Return an element.

    Args:
        element: Its name.
        children: Text, which is escaped, or markup.
        attributes: ``class_`` for ``class``, ``data_x`` for ``data-x``; None and False leave one out, True gives it
            no value.
    """
    parts = [f"<{element}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = key.rstrip("_").replace("_", "-")
        parts.append(f" {spelled}" if value is True else f' {spelled}="{escape(value)}"')
    parts.append(">")
    if element not in _VOID:
        parts += [escape(child) for child in children]
        parts.append(f"</{element}>")
    return Safe("".join(parts))


def join(parts: Iterable[Content], separator: str = "") -> Safe:
    """Return parts one after the other, each escaped unless it is markup."""
    return Safe(separator.join(escape(part) for part in parts))
