"""Tells how much of a run is done, and merges its parts into one file, byte for byte that of one unbroken run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..enums import Format
from ..errors import InputError
from ..messages import shell_word
from ..output.destination import open_output
from ..output.render.choose_writer import make_writer
from ..results import Failure, Manifest, Prediction, Ranked, Record
from .commits import committed, find_done, read_records, repair
from .plan import Plan
from .recipe import RunRecipe
from .run_folder import Folder

_READERS = 16
"""Objects of a store that are read at once; each is a small one and far away."""

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is.

    Attributes:
        place: The run's folder, as the user named it.
        id: The plan's.
        shards: How many it has.
        committed: How many are.
        images: All of them; None where that is not known before the end.
        records: Of the shards that are committed.
        failures: Among those.
        missing: Numbers of the shards that are not.
        damaged: Numbers of those whose ``.done`` object cannot be read, or is another plan's.
        made_by: What made the parts: engine, device, precision and versions, each with its number of shards.
    """

    place: str
    id: str
    shards: int
    committed: int
    images: int | None
    records: int
    failures: int
    missing: tuple[int, ...]
    damaged: tuple[int, ...]
    made_by: tuple[tuple[str, int], ...]


def find_status(folder: Folder, plan: Plan) -> Status:
    """Read what is committed."""
    listed = committed(folder, plan)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda n: find_done(folder, plan.id, n) if n in listed else None, range(len(plan.shards)))
        dones = list(found)
    unread = [number for number, done in enumerate(dones) if done is None]
    there = [done for done in dones if done is not None]
    makers = Counter(describe_maker(done.made_by) for done in there)
    return Status(
        folder.place,
        plan.id,
        len(plan.shards),
        len(there),
        plan.images,
        sum(done.images for done in there),
        sum(done.failures for done in there),
        tuple(number for number in unread if number not in listed),
        tuple(number for number in unread if number in listed),
        tuple(makers.most_common()),
    )


def describe_maker(made_by: dict[str, Any]) -> str:
    """Say in a few words what made a part."""
    versions = " ".join(f"{name} {version}" for name, version in sorted(made_by.get("versions", {}).items()))
    return " ".join([*(str(made_by.get(key)) for key in ("engine", "device", "precision")), versions]).strip()


def merge(
    folder: Folder,
    plan: Plan,
    recipe: RunRecipe,
    target: Path,
    form: Format,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Status:
    """Write all records to one file, once every shard is found whole.

    Args:
        folder: Of the run.
        plan: The run.
        recipe: Of the plan.
        target: The file.
        form: JSON lines, CSV or TSV.
        on_progress: Called with the number of records written since the last call.

    Raises:
        InputError: Shards are missing, or one is not as it was committed; the message names them.
        OutputError: It cannot be written.
    """
    status = find_status(folder, plan)
    if status.missing:
        raise InputError(
            f"{len(status.missing)} of {status.shards} shards are missing: {name_numbers(status.missing)}",
            f"zeroshot run work {shell_word(folder.place)}" + " --verify" * bool(status.damaged),
        )
    check_undamaged(folder, status)
    with open_output(target) as stream:
        writer = make_writer(form, stream, recipe.layout)
        writer.begin(Manifest({}, {}, {}, {}))
        for number in range(len(plan.shards)):
            lines = _checked_lines(folder, plan, number)
            if form is Format.JSONL:
                stream.writelines(lines)
            else:
                _write(stream, form, recipe, lines)
            on_progress(len(lines))
    return status


def check_undamaged(folder: Folder, status: Status, among: Container[int] | None = None) -> None:
    """Refuse shards whose ``.done`` objects cannot be read.

    Args:
        folder: Of the run.
        status: How far it is.
        among: The shards that are asked for; None for all of them.

    Raises:
        InputError: Names them, and what makes them anew.
    """
    damaged = [number for number in status.damaged if among is None or number in among]
    if damaged:
        raise InputError(
            f"what commits {len(damaged)} of {status.shards} shards is damaged or of another plan:"
            f" {name_numbers(damaged)}",
            repair(folder),
        )


def _checked_lines(folder: Folder, plan: Plan, number: int) -> list[bytes]:
    """Return a shard's records, if they are those that were committed and as many as were planned."""
    done = find_done(folder, plan.id, number)
    if done is None:
        raise InputError(f"shard {number} of {folder.place} is no longer committed", repair(folder))
    return read_records(folder, plan, done)


def _write(stream: BinaryIO, form: Format, recipe: RunRecipe, lines: Iterable[bytes]) -> None:
    writer = make_writer(form, stream, recipe.layout)
    for line in lines:
        writer.write(_parse(json.loads(line)))


def _parse(plain: dict[str, Any]) -> Record:
    """Make the record anew whose JSON this is; numbers that were not written are never read."""
    if "error" in plain:
        return Failure(plain["path"], plain["error"])
    top = tuple(
        Ranked(entry["label"], *(entry.get(name, 0.0) for name in ("probability", "similarity", "logit")))
        for entry in plain["top"]
    )
    return Prediction(plain["path"], plain["label"], top[0].probability, top)


def name_numbers(numbers: Iterable[int]) -> str:
    """Return numbers in a few words, such as ``3, 7-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_NAMED]]
    return ", ".join(named) + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
