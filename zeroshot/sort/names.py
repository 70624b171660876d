"""File names that every file system accepts: labels as folder names, and file names that are still free.

Images get carried to other computers, so the strictest system counts everywhere: Windows' reserved names and
characters, names that differ only in case or in how an accent is composed, and 255 bytes.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import PurePath

REVIEW = "_review"
"""Folder of the images whose best label stayed below the threshold."""

MAX_LABEL_BYTES = 120
"""Longest folder name made of a label, in UTF-8; what is left of 255 is for people to add to."""

MAX_NAME_BYTES = 255
"""Longest file name of nearly every file system, in bytes."""

_MAX_ENDING_BYTES = 200
"""Longest ending that stays behind a number; a longer one is not taken for an ending."""

_LONGEST_TYPE = 16
"""Characters of an ending such as ``jpg`` that says what a file is."""

_FORBIDDEN = frozenset('/\\:*?"<>|')
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
_JOINERS = "\u200c\u200d"  # invisible, but they shape scripts and emoji


def fold(name: str) -> str:
    """Return a name with case and composition folded, to compare names as such file systems do."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_folder_name(label: str) -> str:
    """Turn a label into the name of a visible folder that every file system takes.

    What a path, a shell or a terminal would act on becomes a hyphen: separators, control and formatting characters,
    undecodable bytes. Dots, hyphens and spaces at either end go.
    """
    text = "".join(_safe_character(character) for character in unicodedata.normalize("NFC", label))
    name = " ".join(text.split()).lstrip(" .-~").rstrip(" .")
    name = cut_to_bytes(name, MAX_LABEL_BYTES).rstrip(" .")
    if not name:
        return "unnamed"
    stem, dot, rest = name.partition(".")
    return f"{stem}_{dot}{rest}" if fold(stem.rstrip()) in _RESERVED else name


def safe_file_name(member: str) -> str:
    """Turn the name of an archive's member or an object into a file's: its last part, made safe as a label is."""
    name = member.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    if not stem or not ending or len(ending) > _LONGEST_TYPE:
        stem, dot, ending = name, "", ""
    return safe_folder_name(stem) + dot + "".join(_safe_character(character) for character in ending.strip())


def _safe_character(character: str) -> str:
    if character.isspace():
        return " "
    kind = unicodedata.category(character)
    return "-" if character in _FORBIDDEN or (kind in ("Cc", "Cf", "Cs") and character not in _JOINERS) else character


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Give each label a folder name of its own; labels of the same spelling share one.

    A name that another label or `_review` has already, case aside, is numbered. A label that is a folder's name as it
    stands comes first: ``dog.`` does not take the folder of ``dog``.
    """
    taken = {fold(REVIEW)}
    names: dict[str, str] = {}
    unique = list(dict.fromkeys(labels))
    for label in sorted(unique, key=lambda label: safe_folder_name(label) != label):
        name = next(name for name in numbered(safe_folder_name(label), "") if fold(name) not in taken)
        taken.add(fold(name))
        names[label] = name
    return {label: names[label] for label in unique}


def numbered(stem: str, suffix: str) -> Iterator[str]:
    """Yield ``stem.jpg``, ``stem (2).jpg``, ``stem (3).jpg``, ...; the stem is shortened where needed."""
    yield stem + suffix
    number = 2
    while True:
        tail = f" ({number}){suffix}"
        yield cut_to_bytes(stem, MAX_NAME_BYTES - len(os.fsencode(tail))) + tail
        number += 1


def numbered_file(name: str) -> Iterator[str]:
    """Yield a file's name, then the same with numbers before its ending."""
    path = PurePath(name)
    if len(os.fsencode(path.suffix)) > _MAX_ENDING_BYTES:  # the number would not fit
        return numbered(name, "")
    return numbered(path.stem, path.suffix)


def cut_to_bytes(text: str, most: int) -> str:
    """Cut a text to at most so many bytes as a file name, between characters."""
    while text and len(os.fsencode(text)) > most:
        text = text[:-1]
    return text
