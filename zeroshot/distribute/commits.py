"""Commits a shard's results to a run's folder: each file whole, and the ``.done`` object last.

At all times a ``.done`` object names count and hash of exactly the files that are there. It holds because the name of
a file has the hash of its content, so that a worker only ever writes what belongs under a name, over whatever is
there, and never over another worker's result. Several workers may compute a shard at once, on hardware that rounds
otherwise: the first ``.done`` object decides whose files are the shard's. Files that no ``.done`` object names, of a
worker that was later or was killed, or of another plan, are never read. What is damaged, or of another plan, is
withdrawn by removing its ``.done`` object, and is computed again from the images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from ..messages import shell_word
from .part_files import count_failures, lines_of, read_features
from .plan import Plan
from .run_folder import Folder

DONE = "done"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a shard: its name in the run's folder, and what it holds."""

    name: str
    size: int
    sha256: str

    @staticmethod
    def of(name: str, content: bytes) -> File:
        """Describe a file by its content."""
        return File(name, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Done:
    """That a shard is committed.

    Attributes:
        plan: Id of the plan.
        shard: Its number.
        images: Records that it holds.
        failures: How many of them are failures.
        files: Its files, records first.
        made_by: Engine, device, precision and versions.
    """

    plan: str
    shard: int
    images: int
    failures: int
    files: tuple[File, ...]
    made_by: dict[str, Any]

    def content(self) -> bytes:
        """Return it as JSON."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def done_name(number: int) -> str:
    """Return what the object that commits a shard is called."""
    return f"{DONE}/{number:05d}.done"


def commit(folder: Folder, done: Done, contents: tuple[bytes, ...]) -> Done:
    """Write a shard's files, then the object that says so.

    Args:
        folder: Of the run.
        done: The object.
        contents: Of the files that it names.

    Returns:
        The object that stands there now: another worker's, where that was first.
    """
    for file, content in zip(done.files, contents, strict=True):
        folder.replace(file.name, content)
    name = done_name(done.shard)
    if not folder.create(name, done.content()):
        if earlier := find_done(folder, done.plan, done.shard):
            return earlier
        folder.replace(name, done.content())  # damaged, or of another plan
    return done


def find_done(folder: Folder, plan: str, number: int) -> Done | None:
    """Return the object that commits a shard; None where it is missing, damaged or of another plan."""
    try:
        plain = json.loads(folder.read(done_name(number)))
        files = tuple(File(**entry) for entry in plain.pop("files"))
        done = Done(files=files, **plain)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return done if (done.plan, done.shard) == (plan, number) and files else None


def committed(folder: Folder, plan: Plan) -> set[int]:
    """Return the numbers of the shards that are committed, in one listing."""
    return {number for number in map(_number, folder.names(DONE)) if number is not None and number < len(plan.shards)}


def _number(name: str) -> int | None:
    stem = name.removesuffix(".done")
    number = int(stem) if stem.isascii() and stem.isdecimal() else None
    return number if number is not None and done_name(number) == f"{DONE}/{name}" else None


def repair(folder: Folder) -> str:
    """Return the command that computes again what is damaged."""
    return f"`zeroshot run work {shell_word(folder.place)} --verify` computes it again"


def read_checked(folder: Folder, file: File) -> bytes:
    """Return a file's content if it is what was committed.

    Raises:
        InputError: It is gone or another.
    """
    try:
        content = folder.read(file.name)
    except FileNotFoundError:
        raise InputError(f"{folder.place}/{file.name} is gone", repair(folder)) from None
    if File.of(file.name, content) != file:
        raise InputError(f"{folder.place}/{file.name} is not what was committed", repair(folder))
    return content


def read_records(folder: Folder, plan: Plan, done: Done) -> list[bytes]:
    """Return a shard's records as JSON lines, once every count and hash of its files is checked.

    Raises:
        InputError: One of them is not what was committed or planned.
    """
    name = done.files[0].name
    contents = [read_checked(folder, file) for file in done.files]
    try:
        lines = lines_of(name, contents[0])
        failures = count_failures(lines)
        rows = [len(read_features(file.name, made)) for file, made in zip(done.files[1:], contents[1:], strict=True)]
    except ValueError as error:
        raise InputError(f"{folder.place}/{name} is damaged: {error}", repair(folder)) from error
    planned = plan.shards[done.shard].images
    if len(lines) != done.images or planned not in (None, len(lines)):
        raise InputError(
            f"shard {done.shard} of {folder.place} holds {len(lines)} records instead of {planned or done.images}",
            repair(folder),
        )
    if failures != done.failures or any(count != len(lines) - failures for count in rows):
        raise InputError(
            f"shard {done.shard} of {folder.place} has other numbers of failures or features than were committed",
            repair(folder),
        )
    return lines


def verify(folder: Folder, plan: Plan) -> Iterator[tuple[int, str]]:
    """Read every committed file; yield the number of each shard that is not as committed, and why."""
    for number in sorted(committed(folder, plan)):
        done = find_done(folder, plan.id, number)
        if done is None:
            yield number, f"{folder.place}/{done_name(number)} is damaged or of another plan"
            continue
        try:
            read_records(folder, plan, done)
        except InputError as error:
            yield number, error.message
