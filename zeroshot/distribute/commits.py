"""How a shard's results come to stand in a run's folder: each file whole, and the ``.done`` object last.

Whoever is first wins: results are equal bytes for equal inputs, and where another machine rounds otherwise the part
that stands there is kept and the ``.done`` object describes that one. Running a shard twice is harmless so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from .folder import Folder
from .plan import Plan

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


@dataclass(frozen=True, slots=True)
class Result:
    """A file that a worker made, and how to tell that another one is its equal.

    Attributes:
        name: In the run's folder.
        content: What was made.
        same_images: Whether another content is whole and about the same images in the same order.
    """

    name: str
    content: bytes
    same_images: Callable[[bytes], bool]


def done_name(number: int) -> str:
    """Return what the object that commits a shard is called."""
    return f"{DONE}/{number:05d}.done"


def commit(
    folder: Folder, results: tuple[Result, ...], describe: Callable[[tuple[File, ...], bytes], Done], number: int
) -> Done:
    """Write a shard's files, then the object that says so.

    Args:
        folder: Of the run.
        results: The files, records first.
        describe: Makes the object for the files that stand there, and the content of the first of them.
        number: The shard's.
    """
    standing = [_put(folder, result) for result in results]
    files = tuple(File.of(result.name, content) for result, content in zip(results, standing, strict=True))
    done = describe(files, standing[0])
    if folder.create(done_name(number), done.content()):
        return done
    earlier = find_done(folder, done.plan, number)
    if earlier is not None and earlier.files == done.files:
        return earlier
    folder.replace(done_name(number), done.content())  # damaged, or of files that are gone
    return done


def _put(folder: Folder, result: Result) -> bytes:
    """Write a file, and return what stands there now: an equal one that was there before stays."""
    if folder.create(result.name, result.content):
        return result.content
    try:
        there = folder.read(result.name)
    except FileNotFoundError:
        there = b""
    if there == result.content or (there and result.same_images(there)):
        return there
    folder.replace(result.name, result.content)
    return result.content


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
    return int(stem) if stem != name and stem.isascii() and stem.isdecimal() and len(stem) >= 5 else None


def read_checked(folder: Folder, file: File) -> bytes:
    """Return a file's content if it is what was committed.

    Raises:
        InputError: It is gone or another.
    """
    try:
        content = folder.read(file.name)
    except FileNotFoundError:
        raise InputError(
            f"{folder.place}/{file.name} is gone", "`zeroshot run work RUN --verify` computes it again"
        ) from None
    if File.of(file.name, content) != file:
        raise InputError(
            f"{folder.place}/{file.name} is not what was committed",
            "`zeroshot run work RUN --verify` computes it again",
        )
    return content


def verify(folder: Folder, plan: Plan) -> Iterator[tuple[int, str]]:
    """Read every committed file; yield the number of each shard that is not as committed, and why."""
    for number in sorted(committed(folder, plan)):
        done = find_done(folder, plan.id, number)
        if done is None:
            yield number, f"{folder.place}/{done_name(number)} is damaged or of another plan"
            continue
        try:
            for file in done.files:
                read_checked(folder, file)
        except InputError as error:
            yield number, error.message
