"""The page around a report's sections: head, policy, style, script, navigation."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources

from ...results import Manifest
from .markup import Content, Safe, join, tag
from .plots import STYLE

_UPRIGHT = 24
"""Characters of a label that stand above a column of a heat map."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        body: What is in it.
        lead: A sentence below the heading; empty for none.
    """

    key: str
    title: str
    body: Safe
    lead: str = ""


def build_page(title: str, summary: str, sections: Sequence[Section]) -> bytes:
    """Return the whole page in UTF-8.

    Args:
        title: Of the page.
        summary: A sentence below it.
        sections: In order.
    """
    style = _resource("report.css") + STYLE
    script = _resource("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="zeroshot"),
        tag("title", title),
        tag("style", Safe(style)),
    )
    links = join(tag("li", tag("a", section.title, href=f"#{section.key}")) for section in sections)
    body = tag(
        "body",
        tag("a", "Skip to the content", class_="skip", href="#content"),
        tag(
            "header",
            tag("h1", title),
            tag("p", summary, class_="lead"),
            tag("nav", tag("ul", links), aria_label="Sections"),
        ),
        tag("main", join(_section(section) for section in sections), id="content", tabindex="-1"),
        tag("script", Safe(script)),
    )
    return ("<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n").encode("utf-8", "backslashreplace")


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Content]],
    *,
    caption: str,
    sortable: bool = False,
    numbers: int = 0,
) -> Safe:
    """Return a table inside a box that scrolls by itself on a narrow screen.

    Args:
        headings: Of the columns.
        rows: Cells; the first of each row is its heading.
        caption: What the table holds, for those who do not see it.
        sortable: The script makes the headings buttons that sort.
        numbers: Columns from this one on hold numbers; 0 for none.
    """

    def cell(index: int, content: Content) -> Safe:
        numeric = "number" if numbers and index >= numbers else None
        return tag("th", content, scope="row") if index == 0 else tag("td", content, class_=numeric)

    head = join(
        tag("th", name, scope="col", class_="number" if numbers and index >= numbers else None)
        for index, name in enumerate(headings)
    )
    body = join(tag("tr", join(cell(index, content) for index, content in enumerate(row))) for row in rows)
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", head)),
        tag("tbody", body),
        class_="sortable" if sortable else None,
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def column_heads(corner: str, names: Sequence[str]) -> Safe:
    """Return the head of a heat map: upright names, long ones shortened (whole when pointed at)."""
    cells = [tag("th", corner, scope="col", class_="corner")]
    for name in names:
        shown = name if len(name) <= _UPRIGHT else name[: _UPRIGHT - 1] + "…"
        cells.append(tag("th", shown, scope="col", title=name if shown != name else None))
    return tag("thead", tag("tr", join(cells)))


def manifest_section(manifest: Manifest) -> Section:
    """Return the section that lets a number be repeated: what decided it, in short and whole."""
    model, prompts = manifest.model, manifest.prompts
    facts = {
        "model": f"{model['model']} ({model['architecture']} {model['pretrained']})".replace(" )", ")"),
        "weights": f"{model['source']}, SHA-256 {model['weights_sha256']}",
        "prompts": f"{prompts['name']}, {len(prompts['templates'])} templates",
        "labels": str(len(manifest.labels["labels"])),
        "engine": f"{model['engine']} on {model['device']}, {model['precision']}",
        "versions": ", ".join(f"{name} {version}" for name, version in model["versions"].items()),
        "options": ", ".join(f"{name}: {value}" for name, value in manifest.options.items()),
    }
    entries = join(join([tag("dt", name), tag("dd", value)]) for name, value in facts.items())
    whole = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, default=str)
    details = tag("details", tag("summary", "All of it, as JSON"), tag("pre", whole, tabindex="0"))
    return Section("manifest", "Manifest", join([tag("dl", entries), details]), "What decided these numbers.")


def tiles(numbers: Sequence[tuple[str, str, str]]) -> Safe:
    """Return the headline numbers: name, value, and what stands below it."""
    return tag(
        "dl",
        join(
            tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", note, class_="note"), class_="tile")
            for name, value, note in numbers
        ),
        class_="tiles",
    )


def _section(section: Section) -> Safe:
    heading = tag("h2", section.title, id=f"{section.key}-title")
    lead = tag("p", section.lead, class_="lead") if section.lead else Safe()
    return tag("section", heading, lead, section.body, id=section.key, aria_labelledby=f"{section.key}-title")


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
