"""The labels that a user names: parsed, checked, grouped.

Labels are keyed by their index, never by their text: ImageNet's 1,000 names hold 998 distinct ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LabelError, nearest
from ..messages import as_many
from ..models import open_clip_tables
from .unicode_text import clean_word, show_spellings, without_zero_width
from .yaml_files import SUFFIXES, parse_yaml, read_text

IMAGENET = "imagenet"
"""Name that stands for ImageNet-1k's 1,000 labels, which open_clip carries, where a label file is asked for."""

_YAML_KEYS = ("labels", "background", "groups")
_LABEL_KEYS = ("aliases", "prompts")


@dataclass(frozen=True, slots=True)
class Label:
    """One thing an image may be.

    Attributes:
        name: What is reported.
        aliases: Other words for it; their features are averaged with the name's, so that they count as one label.
        prompts: Whole sentences to use for this label instead of the template set.
        background: It takes probability, but is never reported as the answer.
    """

    name: str
    aliases: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    background: bool = False

    def __post_init__(self) -> None:
        for field in ("aliases", "prompts"):
            object.__setattr__(self, field, tuple(as_many(getattr(self, field))))

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """All labels of a run, in order.

    Attributes:
        labels: The classifier's rows.
        groups: Name of a group and the indices of its labels, whose probabilities are summed and reported as one.
    """

    labels: tuple[Label, ...]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names, by index."""
        return tuple(label.name for label in self.labels)

    @property
    def answers(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What can be reported: each name with the indices whose probabilities it sums, in label order.

        A group stands where its first member stood; background labels are absent.
        """
        group_of = {index: group for group in self.groups for index in group[1]}
        answers: dict[tuple[str, tuple[int, ...]], None] = {}
        for index, label in enumerate(self.labels):
            if not label.background:
                answers.setdefault(group_of.get(index, (label.name, (index,))))
        return tuple(answers)

    def manifest(self) -> dict[str, Any]:
        """Return the labels as plain data for a manifest."""
        return {
            "labels": [{name: getattr(label, name) for name in Label.__slots__} for label in self.labels],
            "groups": {name: [self.labels[index].name for index in members] for name, members in self.groups},
        }


def normalise(text: str) -> str:
    """Return what labels are compared by: compatibility form, nothing of zero width, case folded, ``_`` as spaces."""
    folded = unicodedata.normalize("NFKC", without_zero_width(text)).casefold().replace("_", " ")
    return " ".join(folded.split())


def parse_labels(*texts: str) -> LabelSet:
    r"""Parse ``cat,dog``, once or several times; ``\,`` is a comma inside a label and ``\\`` a backslash.

    Raises:
        LabelError: A label is empty or stands twice, or there are none.
    """
    return check_labels(LabelSet(tuple(Label(name) for text in texts if text.strip() for name in _split(text))))


def as_labels(given: LabelSet | str | Iterable[str | Label]) -> LabelSet:
    """Return labels as a set: one as it is, a string parsed, a list of names or labels checked.

    Raises:
        LabelError: A label is empty or stands twice, or there are none.
    """
    if isinstance(given, LabelSet):
        return given
    if isinstance(given, str):
        return parse_labels(given)
    return check_labels(LabelSet(tuple(Label(item) if isinstance(item, str) else item for item in given)))


def _split(text: str) -> list[str]:
    """Split at commas that no backslash precedes."""
    parts: list[str] = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            parts[-1] += following if following in (",", "\\") else "\\" + following
        elif character == ",":
            parts.append("")
        else:
            parts[-1] += character
    return [" ".join(part.split()) for part in parts]


def load_labels(source: str) -> LabelSet:
    """Load labels from a file: one per line, or YAML (``.yaml``, ``.yml``, ``.json``); or ``imagenet`` for its 1,000.

    In a text file empty lines and lines that begin with ``#`` are skipped. A file of the name ``imagenet`` is
    ``./imagenet``, so that the word means the same in every folder.

    Raises:
        LabelError: The file cannot be read, or a label is empty or stands twice.
    """
    if source == IMAGENET:
        return LabelSet(tuple(Label(name) for name in open_clip_tables.imagenet_names().values()))
    path = Path(source)
    text = read_text(path, LabelError)
    if path.suffix.lower() in SUFFIXES:
        found = parse_label_yaml(text, source)
    else:
        lines = (" ".join(line.split()) for line in text.splitlines())
        named = (line[line.startswith("\\#") :] for line in lines if line and not line.startswith("#"))
        found = LabelSet(tuple(map(Label, named)))
    if not found.labels:
        raise LabelError(f"no labels in {source}", "write one per line")
    return check_labels(found)


def parse_label_yaml(text: str, name: str) -> LabelSet:
    """Parse the YAML form: ``labels`` (a list, or a mapping to aliases or details), ``background``, ``groups``.

    Raises:
        LabelError: It has another shape; the message names the key.
    """
    document = parse_yaml(text, name, LabelError)
    if isinstance(document, list):
        document = {"labels": document}
    if not isinstance(document, dict):
        raise LabelError(
            f"{name}: expected a list of labels or the keys {', '.join(_YAML_KEYS)}", "see docs/usage.md, Labels"
        )
    for key in document:
        if key not in _YAML_KEYS:
            raise LabelError(
                f"{name}: unknown key {key!r}{nearest(str(key), _YAML_KEYS)}", f"the keys are {', '.join(_YAML_KEYS)}"
            )
    labels = [
        *_read_labels(document.get("labels"), f"{name}: labels", background=False),
        *_read_labels(document.get("background"), f"{name}: background", background=True),
    ]
    return LabelSet(tuple(labels), _read_groups(document.get("groups"), labels, f"{name}: groups"))


def _read_labels(entry: Any, where: str, *, background: bool) -> list[Label]:
    if entry is None:
        return []
    if isinstance(entry, str):
        entry = [entry]
    if isinstance(entry, list):
        entry = [item if isinstance(item, dict) and len(item) == 1 else {_text(item, where): None} for item in entry]
        return [label for item in entry for label in _read_labels(item, where, background=background)]
    if not isinstance(entry, dict):
        raise LabelError(f"{where}: expected a list or a mapping", "see docs/usage.md, Labels")
    labels: list[Label] = []
    for raw_name, details in entry.items():
        name = _text(raw_name, where)
        here = f"{where}: {name}"
        if details is None or details == "":
            labels.append(Label(name, background=background))
        elif isinstance(details, dict):
            for key in details:
                if key not in _LABEL_KEYS:
                    raise LabelError(
                        f"{here}: unknown key {key!r}{nearest(str(key), _LABEL_KEYS)}", "use aliases or prompts"
                    )
            aliases, prompts = (_texts(details.get(key), f"{here}: {key}") for key in _LABEL_KEYS)
            labels.append(Label(name, aliases, prompts, background))
        else:
            labels.append(Label(name, _texts(details, here), background=background))
    return labels


def _read_groups(entry: Any, labels: Sequence[Label], where: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    if entry is None or entry == "":
        return ()
    if not isinstance(entry, dict):
        raise LabelError(f"{where}: expected a mapping from a group's name to its labels", "see docs/usage.md, Labels")
    index_of = {normalise(label.name): index for index, label in enumerate(labels)}
    taken: dict[int, str] = {}
    groups: list[tuple[str, tuple[int, ...]]] = []
    for raw_name, raw_members in entry.items():
        name = _text(raw_name, where)
        if not name:
            raise LabelError(f"{where}: a group has no name", "give it one")
        if other := next((other for other, _ in groups if normalise(other) == normalise(name)), None):
            raise LabelError(f"{where}: two groups are called {other!r} and {name!r}", "put their labels into one")
        members: list[int] = []
        for member in _texts(raw_members, f"{where}: {name}"):
            index = index_of.get(normalise(member))
            if index is None:
                raise LabelError(
                    f"{where}: {name}: no label {member!r}{nearest(member, (label.name for label in labels))}",
                    "list it under labels",
                )
            if labels[index].background:
                raise LabelError(
                    f"{where}: {name}: {member!r} is a background label", "background labels cannot be grouped"
                )
            if index in taken:
                raise LabelError(
                    f"{where}: {member!r} stands in both {taken[index]!r} and {name!r}", "a label belongs to one group"
                )
            taken[index] = name
            members.append(index)
        if not members:
            raise LabelError(f"{where}: {name} has no labels", "name some, or remove the group")
        groups.append((name, tuple(sorted(members))))
    free = {normalise(label.name) for index, label in enumerate(labels) if index not in taken}
    for name, _ in groups:
        if normalise(name) in free:
            raise LabelError(
                f"{where}: {name!r} is a label of its own too", "rename the group or put the label into it"
            )
    return tuple(groups)


def _text(item: Any, where: str) -> str:
    if not isinstance(item, str):
        raise LabelError(
            f"{where}: expected a word or phrase, found {type(item).__name__}",
            "write a list of words, or `name: [alias, ...]`; put words in quotes",
        )
    return " ".join(item.split())


def _texts(entry: Any, where: str) -> tuple[str, ...]:
    if entry is None:
        return ()
    items = entry if isinstance(entry, list) else [entry]
    texts = tuple(_text(item, where) for item in items)
    if not all(texts):
        raise LabelError(f"{where}: an entry is empty", "remove it")
    return texts


def check_labels(labels: LabelSet) -> LabelSet:
    """Return the labels, cleaned by `clean_word`, if each has a name of its own and one of them can be an answer.

    Raises:
        LabelError: Names the empty or repeated ones, or one that holds a control character.
    """
    empty = [str(index + 1) for index, label in enumerate(labels.labels) if not normalise(label.name)]
    if len(empty) == len(labels.labels):
        raise LabelError("no labels", "give --labels cat,dog or --labels-file FILE")
    if empty:
        which = f"label {empty[0]} is" if len(empty) == 1 else f"labels {', '.join(empty)} are"
        raise LabelError(f"{which} empty", r"remove what is empty; a comma inside a label is written \,")
    if repeated := find_repeated(labels):
        raise LabelError(
            f"labels are given twice: {'; '.join(repeated)}",
            "remove one of each; list other words for the same thing as aliases",
        )
    if not labels.answers:
        raise LabelError("every label is a background label", "name at least one label that can be the answer")
    cleaned = tuple(
        Label(
            clean_word(label.name),
            tuple(map(clean_word, label.aliases)),
            tuple(map(clean_word, label.prompts)),
            label.background,
        )
        for label in labels.labels
    )
    return LabelSet(cleaned, tuple((clean_word(name), members) for name, members in labels.groups))


def find_repeated(labels: LabelSet) -> list[str]:
    """Return the words that name two labels after normalising, each with the spellings that collide."""
    spellings: dict[str, list[str]] = {}
    for label in labels.labels:
        for key, word in {normalise(word): word for word in label.words}.items():
            spellings.setdefault(key, []).append(word)
    return [show_spellings(words) for words in spellings.values() if len(words) > 1]
