"""Labels as they are typed on the page, and as YAML."""

from __future__ import annotations

import re

from ..errors import LabelError
from ..prompts.labels import Label, LabelSet, check_labels, parse_label_yaml, parse_labels

_KEYS = re.compile(r"^(labels|groups)\s*:", re.MULTILINE)
_BACKGROUND = "background"
_UNESCAPED = re.compile(r"(?<!\\):(?=\s|$)")


def read_label_text(text: str) -> LabelSet | None:
    r"""Read labels as they are typed: ``cat, dog``, one a line, or the YAML of ``--labels-file``.

    On a line, ``cat: kitten, tabby`` gives a label its aliases, and ``background: wall, floor`` names background
    labels; ``\,`` is a comma inside a label and ``\:`` a colon before a space. A text with a line ``labels:`` or
    ``groups:`` is YAML.

    Returns:
        The labels; None where nothing is typed yet.

    Raises:
        LabelError: A label is empty or stands twice, or the YAML has another shape.
    """
    if not text.strip():
        return None
    if _KEYS.search(text):
        return check_labels(parse_label_yaml(text, "the labels"))
    labels: list[Label] = []
    for line in text.splitlines():
        words = line.strip().removeprefix("- ").strip().rstrip(",")
        if not words or words.startswith("#"):
            continue
        parts = _UNESCAPED.split(words, maxsplit=1)
        named = _words(parts[-1])
        if len(parts) == 1:
            labels += [Label(word) for word in named]
        elif parts[0].strip() == _BACKGROUND:
            labels += [Label(word, background=True) for word in named]
        else:
            labels.append(Label(_with_colons(" ".join(parts[0].split())), tuple(named)))
    return check_labels(LabelSet(tuple(labels))) if labels else None


def _words(text: str) -> list[str]:
    # Whoever is in the middle of `cat, d` has typed a comma and a space; that is no empty label.
    words = text.strip().rstrip(",").strip()
    return [_with_colons(name) for name in parse_labels(words).names] if words else []


def _with_colons(name: str) -> str:
    return name.replace("\\:", ":")


def to_yaml(labels: LabelSet) -> str:
    """Return labels as a YAML file that ``--labels-file`` reads.

    Raises:
        LabelError: There are none.
    """
    import yaml

    if not labels.labels:
        raise LabelError("no labels to write", "type some")
    document: dict[str, object] = {}
    for key, background in (("labels", False), (_BACKGROUND, True)):
        entries: list[object] = []
        for label in labels.labels:
            if label.background is background:
                details = {"aliases": list(label.aliases), "prompts": list(label.prompts)}
                some = {name: words for name, words in details.items() if words}
                entries.append({label.name: some} if some else label.name)
        if entries:
            document[key] = entries
    if labels.groups:
        document["groups"] = {name: [labels.labels[index].name for index in members] for name, members in labels.groups}
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)


def to_option(labels: LabelSet) -> str | None:
    """Return labels as ``--labels`` takes them; None where they need a file."""
    if labels.groups or any(label.aliases or label.prompts or label.background for label in labels.labels):
        return None
    return ",".join(label.name.replace("\\", "\\\\").replace(",", "\\,") for label in labels.labels)
