"""The page around a report's sections: policy, style, script, navigation, and the sections that both reports have."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...results import Failure, Manifest
from .markup import Content, Safe, read_resource, render
from .plots import STYLE

_STYLES = ("report.css", "gallery.css", "matrix.css")
_SCRIPTS = ("tables.js", "gallery.js", "viewer.js", "ticked_images.js", "curve.js")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        template: The file that lays it out.
        content: What that file shows.
        lead: A sentence below the heading; empty for none.
        folded: It is closed until it is opened.
    """

    key: str
    title: str
    template: str
    content: Any
    lead: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell, which may be a link that filters the gallery.

    Attributes:
        text: What it shows.
        given: Key of the label that its images were given; None does not filter.
        answer: Key of the label that they were answered with; None does not filter.
        view: The gallery's tab; empty for all.
    """

    text: Content
    given: int | None = None
    answer: int | None = None
    view: str = ""

    @property
    def links(self) -> bool:
        """Whether it filters anything."""
        return self.given is not None or self.answer is not None or bool(self.view)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and headings.

    Attributes:
        caption: What the table holds, for those who do not see it.
        headings: Of the columns.
        rows: Cells; the first of each row is its heading.
        numbers: Columns from this one on hold numbers; 0 for none.
        sortable: The script makes the headings buttons that sort, and long tables searchable.
    """

    caption: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    numbers: int = 0
    sortable: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline number: its name, the value, and what stands below it."""

    name: str
    value: str
    note: str = ""


def build_page(title: str, summary: str, sections: Sequence[Section], headline: Sequence[str] = ()) -> bytes:
    """Return the whole page in UTF-8.

    Args:
        title: Of the page.
        summary: A sentence below it.
        sections: In order.
        headline: The one number, its interval and a sentence; empty for none.
    """
    style = "\n".join(map(read_resource, _STYLES)) + STYLE
    script = '"use strict";\n' + "\n".join(map(read_resource, _SCRIPTS))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = render(
        "page.html",
        title=title,
        summary=summary,
        headline=headline,
        sections=sections,
        policy=policy,
        style=Safe(style),
        script=Safe(script),
    )
    return (page + "\n").encode("utf-8", "backslashreplace")


def count(number: int, noun: str) -> str:
    """Return ``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def failures_section(failures: Sequence[Failure], lead: str = "") -> Section:
    """Return the section of the images that could not be read."""
    rows = [(Cell(failure.path), Cell(failure.error)) for failure in failures]
    content = {"table": Table("Images that could not be read", ("image", "why"), rows)}
    return Section("failures", "Not read", "summary.html", content, lead, folded=len(rows) > 10)


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
    whole = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, default=str)
    content = {"facts": facts, "whole": whole}
    return Section("manifest", "Manifest", "manifest.html", content, "What decided these numbers.", folded=True)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
