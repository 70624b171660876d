"""Finds the label that a folder's name or a spelling in a table stands for, by name and never by position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import LabelError, nearest
from ..messages import count_of, printable, some_of
from ..models import open_clip_tables
from ..prompts.labels import IMAGENET, Label, normalise
from ..prompts.unicode_text import clean_word
from ..prompts.yaml_files import SUFFIXES, parse_yaml, read_text


def load_label_names(source: str) -> dict[str, Label]:
    """Load the words for folder names: ``imagenet``, YAML/JSON (``key: name``, ``key: [name, alias, ...]``), or lines.

    In a text file each line is a folder's name, then a tab, comma or space, then the words. A file of the name
    ``imagenet`` is ``./imagenet``. Keys that a file gives the same words have one label, the same object; those of
    ``imagenet`` never do, since its published accuracies have two classes called ``missile``.

    Raises:
        LabelError: The file cannot be read or has another shape.
    """
    if source == IMAGENET:
        return {synset: Label(name) for synset, name in open_clip_tables.imagenet_names().items()}
    path = Path(source)
    text = read_text(path, LabelError)
    if path.suffix.lower() in SUFFIXES:
        document = parse_yaml(text, source, LabelError)
        if not isinstance(document, dict):
            raise LabelError(f"{source}: expected a mapping from folder names to labels", "write `n01440764: tench`")
        return _united({str(key): _label_of(words, f"{source}: {key}") for key, words in document.items()})
    names: dict[str, Label] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        # A tab is unmistakable; else the earlier of comma and space: `n01440764 tench, Tinca tinca` has both.
        key, *rest = re.split("\t" if "\t" in line.strip() else "[, ]", line.strip(), maxsplit=1)
        words = rest[0].split() if rest else []
        if not words:
            raise LabelError(
                f"{source}, line {number}: no name after {key!r}", "write the folder's name, a tab, and the words"
            )
        if key in names:
            hint = "keep one of them; a line is a folder's name, a tab, and the words for it"
            raise LabelError(f"{source}, line {number}: {key!r} is given twice", hint)
        names[key] = Label(clean_word(" ".join(words)))
    return _united(names)


def _united(names: dict[str, Label]) -> dict[str, Label]:
    """Give keys with the same words the same label."""
    first: dict[tuple[str, ...], Label] = {}
    return {key: first.setdefault(tuple(map(normalise, label.words)), label) for key, label in names.items()}


def _label_of(words: object, where: str) -> Label:
    """Make a label of a name, or of a list whose first entry is the name and whose others are aliases."""
    entries = words if isinstance(words, list) else [words]
    if not entries or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise LabelError(
            f"{where}: expected a name or a list of names", "a line is `folder: words`; put words in quotes"
        )
    first, *others = (clean_word(str(entry)) for entry in entries)
    return Label(first, tuple(others))


def _label_from(key: str) -> Label:
    """Make a label of a folder's name or a table's spelling: underscores are spaces."""
    if any("\ud800" <= character <= "\udfff" for character in key):
        raise LabelError(f"{printable(key)!r} is not UTF-8", "rename it, or give it words with --label-names")
    try:
        name = clean_word(key.replace("_", " "))
    except LabelError as error:
        raise LabelError(f"the label {error.message}", "rename the folder or the table's label") from error
    if not name:
        raise LabelError(f"{key!r} gives an empty label", "rename it, or give it words with --label-names")
    return Label(name)


def gather(keys: Sequence[str], names: Mapping[str, Label] | None, noun: str) -> tuple[list[Label], dict[str, int]]:
    """Return the labels that folders or spellings stand for, in their order, and each one's place among them.

    Args:
        keys: Names of folders or spellings of a table, each once.
        names: Words for them; keys whose label is the same object are one label.
        noun: What a key is, for messages.

    Raises:
        LabelError: A key has no name, or gives an empty label.
    """
    if names is not None and (missing := [key for key in keys if key not in names]):
        raise LabelError(
            f"no name for {count_of(len(missing), noun)}: {some_of(missing)}{nearest(missing[0], names)}",
            "add them to the file given with --label-names, or move their images away",
        )
    labels: list[Label] = []
    place_of: dict[str, int] = {}
    at: dict[int, int] = {}
    for key in keys:
        label = _label_from(key) if names is None else names[key]
        if id(label) not in at:
            at[id(label)] = len(labels)
            labels.append(label)
        place_of[key] = at[id(label)]
    return labels, place_of


def join_keys(labels: Sequence[Label], place_of: Mapping[str, int]) -> tuple[tuple[str, ...], list[str]]:
    """Return what each label is called where it comes from, and notes on labels of several names or the same words."""
    keys = [" + ".join(key for key, place in place_of.items() if place == index) for index in range(len(labels))]
    united = [f"{label.name} ({key})" for label, key in zip(labels, keys, strict=True) if key not in place_of]
    notes = [f"several of them have the same words and count as one label: {some_of(united)}"] if united else []
    counts = Counter(label.name for label in labels)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        notes.append(f"the same words for several labels, which the model cannot tell apart: {some_of(repeated)}")
    spelled: dict[str, list[str]] = {}
    for name in counts:
        spelled.setdefault(normalise(name), []).append(name)
    if alike := [" and ".join(map(repr, same)) for same in spelled.values() if len(same) > 1]:
        notes.append(
            f"labels that differ only in spelling, which the model cannot tell apart: {some_of(alike)}; give them the"
            " same words with --label-names, and they are one"
        )
    return tuple(keys), notes
