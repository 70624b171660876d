"""Makes HTML and SVG with everything escaped: templates escape what they print, `tag` what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

import jinja2
import markupsafe

from ...messages import printable

Safe = markupsafe.Markup
Content = str | float | int | None
_VOID = frozenset({"br", "img", "input", "meta", "link", "hr"})


def escape(text: Content) -> Safe:
    """Return text as markup: special characters become references, and invisible ones are spelled out."""
    return markupsafe.escape(_spell_out("" if text is None else text))


def render(template: str, **values: Any) -> str:
    """Return a template of this folder, filled; every value is escaped unless it is markup."""
    return _environment().get_template(template).render(**values)


def read_resource(name: str) -> str:
    """Return a text file that stands beside this code."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def tag(element: str, /, *children: Content, **attributes: str | float | int | bool | None) -> Safe:
    """Return an element of a drawing.

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


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: read_resource(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_spell_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _spell_out(value: Any) -> Any:
    """Return text with its invisible characters as codes.

    Control and direction characters in a file's name would otherwise vanish or turn the text around; bytes that are
    no UTF-8 could not be written at all.
    """
    if not isinstance(value, str) or isinstance(value, Safe) or value.isprintable():
        return value
    return "\n".join(map(printable, value.split("\n")))
