"""Template sets: sentences with one placeholder, into which labels are put by literal replacement.

``str.format`` on a user's template would raise on any other brace and can reach into objects; nothing here does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import PromptError, nearest
from ..messages import as_many
from ..models import open_clip_tables
from .labels import Label
from .yaml_files import SUFFIXES, parse_yaml, read_text

PLACEHOLDERS = ("{}", "{c}")
DEFAULT = "general"
_KEYS = ("name", "description", "images", "templates", "source")
_SOURCE_PREFIX = "open_clip."


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """A named ensemble of templates.

    Attributes:
        name: As listed.
        templates: Sentences, each with one placeholder.
        description: What it is, in a sentence.
        images: The kind of images it is for; empty for any.
        source: The open_clip constant that the templates come from; empty for our own.
    """

    name: str
    templates: tuple[str, ...]
    description: str = ""
    images: str = ""
    source: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the templates in order, so that a manifest tells two sets of one name apart."""
        import hashlib  # with OpenSSL; a list of sets needs none

        return hashlib.sha256(json.dumps(self.templates).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """Return the set as plain data for a manifest."""
        return {"name": self.name, "sha256": self.sha256, "templates": list(self.templates), "source": self.source}


def check_names_differ(sets: Sequence[TemplateSet], sources: Sequence[str]) -> None:
    """Refuse sets of one name, which nothing would tell apart in what is printed of them.

    Raises:
        PromptError: Names two, by what they were read from.
    """
    seen: dict[str, str] = {}
    for templates, source in zip(sets, sources, strict=True):
        if (other := seen.setdefault(templates.name, source)) != source:
            raise PromptError(
                f"{other} and {source} are both called {templates.name!r}", "write another `name:` in one of them"
            )


def sets_folder() -> Path:
    """Return the folder of the shipped sets: inside the package when installed, else in the checkout."""
    inside = Path(__file__).parent
    return inside if (inside / f"{DEFAULT}.yaml").exists() else inside.parents[1] / "prompts"


def list_names() -> list[str]:
    """Return the names of the shipped sets, sorted."""
    return sorted(path.stem for path in sets_folder().glob("*.yaml"))


def load_templates(source: str) -> TemplateSet:
    """Load a shipped set by name, or a YAML file.

    Raises:
        PromptError: There is no such set, or it cannot be used.
    """
    templates = load_unchecked(source)
    check_templates(templates.templates, source)
    return templates


def load_unchecked(source: str) -> TemplateSet:
    """Load a set as `load_templates` does, but leave it to the caller to look at its templates.

    Raises:
        PromptError: There is no such set, or the file has another shape.
    """
    path = sets_folder() / f"{source}.yaml" if source in list_names() else Path(source)
    if not path.exists() and path.suffix.lower() not in SUFFIXES:
        raise PromptError(
            f"no template set {source!r}{nearest(source, list_names())}",
            "`zeroshot prompts list` shows them; a file of your own ends in .yaml",
        )
    return parse_template_yaml(read_text(path, PromptError), source, path.stem)


def parse_template_yaml(text: str, where: str, stem: str) -> TemplateSet:
    """Parse a set: a list of templates, or a mapping with ``templates`` or ``source``.

    Args:
        text: The YAML.
        where: The file, for messages.
        stem: The set's name where the file does not give one.

    Raises:
        PromptError: It has another shape.
    """
    document = parse_yaml(text, where, PromptError)
    if isinstance(document, list):
        document = {"templates": document}
    if not isinstance(document, dict):
        raise PromptError(
            f"{where}: expected a list of templates or the keys {', '.join(_KEYS)}",
            "`zeroshot prompts show plain` shows one",
        )
    for key in document:
        if key not in _KEYS:
            raise PromptError(
                f"{where}: unknown key {key!r}{nearest(str(key), _KEYS)}", f"the keys are {', '.join(_KEYS)}"
            )
    fields = {key: document.get(key, "") for key in ("name", "description", "images", "source")}
    for key, value in fields.items():
        if not isinstance(value, str):
            raise PromptError(f"{where}: {key} is not text", "put it in quotes")
    fields["name"] = fields["name"] or stem
    if fields["source"]:
        if "templates" in document:
            raise PromptError(f"{where}: has both templates and a source", "keep one of them")
        templates = _templates_of(fields["source"], where)
    else:
        entries = document.get("templates")
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise PromptError(
                f"{where}: templates is not a list of sentences",
                "write them as `- a photo of a {}.`, in quotes where YAML asks for it",
            )
        templates = tuple(entries)
    return TemplateSet(**fields, templates=templates)


def _templates_of(source: str, where: str) -> tuple[str, ...]:
    constant = source.removeprefix(_SOURCE_PREFIX)
    if not source.startswith(_SOURCE_PREFIX) or not constant.isidentifier() or not constant.endswith("TEMPLATES"):
        raise PromptError(
            f"{where}: unknown source {source!r}",
            "sources are open_clip's constants, such as open_clip.OPENAI_IMAGENET_TEMPLATES",
        )
    try:
        return open_clip_tables.templates(constant)
    except AttributeError as error:
        raise PromptError(f"{where}: this open_clip has no {constant}", "pip install -U open_clip_torch") from error


def from_templates(templates: str | Sequence[str]) -> TemplateSet:
    """Make a set of sentences that are given one by one."""
    return TemplateSet("custom", check_templates(tuple(as_many(templates)), "--template"))


def as_templates(given: TemplateSet | str | Sequence[str]) -> TemplateSet:
    """Return templates as a set: one as it is, a name or YAML file loaded, sentences checked.

    Raises:
        PromptError: There is no such set, or a template cannot be used.
    """
    if isinstance(given, TemplateSet):
        return given
    if isinstance(given, str) and not any(mark in given for mark in PLACEHOLDERS):
        return load_templates(given)
    return from_templates(given)


def check_templates(templates: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the templates if there are some and each has exactly one placeholder.

    Raises:
        PromptError: Names the first that does not, or that stands twice.
    """
    if not templates:
        raise PromptError(f"{where}: no templates", "give at least one, such as `a photo of a {}.`")
    for index, template in enumerate(templates):
        if fault := placeholder_fault(template):
            raise PromptError(f"{where}: {template!r} has {fault}", "write {} once, where the label goes")
        if template in templates[:index]:
            raise PromptError(
                f"{where}: {template!r} is given twice", "remove one; a repeated template only weighs more"
            )
    return templates


def placeholder_fault(template: str) -> str:
    """Say what a template has instead of exactly one placeholder, ``{}`` or ``{c}``; nothing where it has one."""
    count = sum(template.count(placeholder) for placeholder in PLACEHOLDERS)
    return "" if count == 1 else f"{count} placeholders" if count else "no placeholder"


def fill(template: str, word: str) -> str:
    """Put a word in the placeholder's place, literally."""
    before, after, has_place = _around_place(template)
    return before + word + after if has_place else template


@lru_cache(maxsize=4096)
def _around_place(template: str) -> tuple[str, str, bool]:
    """Return what stands before and after the placeholder, and whether there is one."""
    for placeholder in PLACEHOLDERS:
        if placeholder in template:
            before, after = template.split(placeholder, 1)
            return before, after, True
    return template, "", False


def prompts_for(label: Label, templates: TemplateSet) -> tuple[str, ...]:
    """Return a label's prompts: its own where it has some, else every word of it in every template.

    The order is word by word, templates in order within each.
    """
    places = [_around_place(sentence) for sentence in label.prompts or templates.templates]
    filled = (
        f"{before}{word}{after}" if has_place else before for word in label.words for before, after, has_place in places
    )
    return tuple(dict.fromkeys(filled))
