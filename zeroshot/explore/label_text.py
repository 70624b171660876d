"""Labels as they are typed on the page, and as YAML."""

from __future__ import annotations

import re

from ..errors import LabelError
from ..prompts.labels import IMAGENET, Label, LabelSet, check_labels, parse_label_yaml, parse_labels

_KEYS = re.compile(r"^(labels|groups)\s*:", re.MULTILINE)
_BACKGROUND = "background"
_COLON = re.compile(r":(?=\s|$)")
_UNESCAPED = re.compile(r"(?<!\\):(?=\s|$)")


def read_label_text(text: str) -> LabelSet | None:
    r"""Read labels as they are typed: ``cat, dog``, one per line, or the YAML of ``--labels-file``.

    On a line, ``cat: kitten, tabby`` gives a label its aliases, and ``background: wall, floor`` names background
    labels; ``\,`` is a comma inside a label and ``\:`` a colon before a space. A line that begins with ``#`` is a note,
    and the mark of a list, ``- ``, is left out; ``\#`` and ``\-`` begin a label. A text with a line ``labels:`` or
    ``groups:`` is YAML.

    Returns:
        The labels; None where nothing is typed yet.

    Raises:
        LabelError: A label is empty or stands twice, a line gives two labels aliases, or the YAML has another shape.
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
            heads = _words(parts[0])
            if len(heads) > 1:
                raise LabelError(
                    f"{words!r} names several labels before its colon", "aliases belong to one label: a line for each"
                )
            labels.append(Label(heads[0] if heads else "", tuple(named)))
    return check_labels(LabelSet(tuple(labels))) if labels else None


def _words(text: str) -> list[str]:
    # Whoever is in the middle of `cat, d` has typed a comma and a space; that is no empty label.
    words = text.strip().rstrip(",").strip()
    if words[:2] in ("\\#", "\\-"):
        words = words[1:]
    return [name.replace("\\:", ":") for name in parse_labels(words).names] if words else []


def to_typed(labels: LabelSet) -> str:
    """Return labels as they would be typed, one per line; as YAML where they have more than names."""
    if _needs_yaml(labels):
        return to_yaml(labels)
    lines = [_COLON.sub(r"\:", _escaped(label.name)) for label in labels.labels]
    return "\n".join(f"\\{line}" if line.startswith(("#", "- ")) else line for line in lines)


def _needs_yaml(labels: LabelSet) -> bool:
    return bool(labels.groups) or any(label.aliases or label.prompts or label.background for label in labels.labels)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace(",", "\\,")


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
    if _needs_yaml(labels) or labels.names == (IMAGENET,):  # as an option it would be the list of that name
        return None
    return ",".join(_escaped(label.name) for label in labels.labels)
