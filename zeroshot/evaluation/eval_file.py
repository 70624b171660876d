"""Defines the JSON that ``zeroshot eval`` writes (its name and version), and reads a run back from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError

EVAL_FORMAT = "zeroshot-eval"
EVAL_VERSION = 1
"""What `load_run` reads and `zeroshot.output.render.evaluation` writes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run said about one image.

    Attributes:
        path: As the run gave it.
        key: The folder or table spelling of the true label.
        target: The true label's name.
        label: The answer.
        probability: The answer's probability.
        right: Whether the answer is the true label.
        right5: Whether the true label is among the best five.
    """

    path: str
    key: str
    target: str
    label: str
    probability: float
    right: bool
    right5: bool


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run read back from the JSON of ``zeroshot eval``.

    Attributes:
        source: The file.
        root: The folder or table, as the run was given it; empty where that is not known.
        answers: By a key that the same image has in another run, in the file's order.
        keys: The labels' folder names.
        title: Model, template set and what else the answers come from, for people.
    """

    source: str
    root: str
    answers: Mapping[str, Answer]
    keys: tuple[str, ...]
    title: str


def load_run(source: str) -> RunFile:
    """Read the JSON that ``zeroshot eval`` wrote.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    try:
        document = json.loads(Path(source).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON", "give the file that `zeroshot eval --output` wrote") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != EVAL_FORMAT:
        what = f"a file of the kind {found!r}" if isinstance(found, str) else "no run of zeroshot"
        raise InputError(f"{source} is {what}", "`zeroshot eval DIR --format json --output RUN.json` writes one run")
    if document.get("version") != EVAL_VERSION:
        raise InputError(
            f"{source} has version {document.get('version')!r}, this zeroshot reads {EVAL_VERSION}",
            "run eval again with this version",
        )
    try:
        return _parse_run(document, source)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"{source} is damaged: {type(error).__name__} {error}", "run eval again") from error


def _parse_run(document: dict[str, Any], source: str) -> RunFile:
    keys = tuple(str(label["key"]) for label in document["labels"])
    root = str(document["manifest"]["options"].get("data") or "")
    answers: dict[str, Answer] = {}
    seen: Counter[str] = Counter()
    for entry in document["predictions"]:
        target = int(entry["target_index"])
        ranks = [int(ranked["index"]) for ranked in entry["top"]]
        answer = Answer(
            entry["path"],
            keys[target],
            entry["target"],
            entry["label"],
            float(entry["probability"]),
            ranks[0] == target,
            target in ranks[:5],
        )
        place = _relative(answer.path, root)
        seen[place] += 1
        # A table may list an image twice; the first stands for the first.
        answers[place if seen[place] == 1 else f"{place}\0{seen[place]}"] = answer
    manifest = document["manifest"]
    title = ", ".join([manifest["model"]["model"], *describe_sources(manifest["prompts"]["name"], manifest["options"])])
    return RunFile(source, root, answers, keys, title)


def describe_sources(prompts: str, options: Mapping[str, Any]) -> list[str]:
    """Return what a run's answers come from beside its model, in words.

    Learned weights that were not drawn to the texts have nothing of the templates, which are left out then.

    Args:
        prompts: The template set, in words.
        options: Of the run's manifest.
    """
    found = [prompts]
    if learned := options.get("learned"):
        weights = f"learned weights of {learned['source']}"
        found = [weights] if learned.get("length") == 0 else [prompts, weights]
    if prior := options.get("prior"):
        found.append("shares of labels estimated" if prior["source"] == "auto" else f"shares of {prior['source']}")
    if calibration := options.get("calibration"):
        found.append(f"calibration {calibration['source']}")
    if options.get("neighbours"):
        found.append("neighbours")
    return found


def _relative(path: str, root: str) -> str:
    """Return an image's path below the folder of the run, so that ``./val`` and ``/data/val`` are the same."""
    base = PurePath(root)
    for folder in (base, base.parent):  # a table's images lie beside it
        if root and PurePath(path).is_relative_to(folder):
            return PurePath(path).relative_to(folder).as_posix()
    return path
