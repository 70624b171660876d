"""The plan of a run: what decides every record, and lists of inputs, one a shard; its id is the hash of it all.

::

    RUN/plan.json                 the recipe, the shards' hashes, the id
    RUN/inputs/00000-HASH.jsonl   a shard's inputs: names of images, and parts of archives
    RUN/parts/part-00000-HASH.jsonl, features-00000-HASH.npy
    RUN/done/00000.done           that a shard is committed: counts, sizes, hashes, what made it

Lists are written as inputs are found, and the plan last: without it there is no run. Lists and parts have the hash of
their content in their names, so that two who plan into one folder at once do not write over each other's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError, OutputError
from ..output.resume_manifest import first_difference
from .run_folder import Folder
from .shard_entries import Entry, Shard, cut, parse_entries

FORMAT = "zeroshot-run"
VERSION = 1

PLAN = "plan.json"
_WITHOUT_PLAN = "--into another folder, or remove its folders done and parts"
SHARD_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Planned:
    """A shard in a plan.

    Attributes:
        images: How many it holds; None for archives that are only opened by who processes them.
        sha256: Of its list, hexadecimal.
    """

    images: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A run.

    Attributes:
        recipe: What decides every record, as plain data (see `recipe.RunRecipe`).
        shards: In the order of their inputs.
        id: Hash of both, hexadecimal.
    """

    recipe: dict[str, Any]
    shards: tuple[Planned, ...]
    id: str = field(default="")

    @property
    def images(self) -> int | None:
        """All images; None where not all archives were opened for the plan."""
        counts = [shard.images for shard in self.shards]
        return None if None in counts else sum(count or 0 for count in counts)

    def document(self) -> dict[str, Any]:
        """Return it as plain data, with its id."""
        plain = {"recipe": self.recipe, "shards": [asdict(shard) for shard in self.shards]}
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return {"format": FORMAT, "version": VERSION, "id": hashlib.sha256(text.encode()).hexdigest(), **plain}


def write_plan(
    folder: Folder,
    recipe: dict[str, Any],
    entries: Iterable[str],
    size: int = SHARD_SIZE,
    on_progress: Callable[[int], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Plan:
    """List the inputs once, and write the plan; memory does not grow with them.

    Args:
        folder: Of the run.
        recipe: What decides every record.
        entries: Names of images and archives, in order.
        size: Images a shard.
        on_progress: Called with the number of inputs that were listed since the last call.
        warn: Told of archives without images.

    Returns:
        The plan; one that stands there already if it is the same.

    Raises:
        InputError: There are no inputs.
        OutputError: Another plan stands there, or it cannot be written.
    """
    recipe = json.loads(json.dumps(recipe))
    owner = _find_owner(folder)
    earlier = find_plan(folder)
    if owner == "" and earlier is None:
        raise OutputError(f"{folder.place} holds parts without the plan that they are of", _WITHOUT_PLAN)
    if earlier and (difference := first_difference(earlier.recipe, recipe)):
        raise OutputError(f"{folder.place} holds a run with other settings: {difference}", "--into another folder")
    planned: list[Planned] = []
    for shard in cut(entries, size, warn):
        content, number = shard.lines(), len(planned)
        planned.append(Planned(shard.images, hashlib.sha256(content).hexdigest()))
        if earlier and planned[-1:] != list(earlier.shards[number : number + 1]):
            raise _differing(folder, earlier, number, shard, size)
        folder.replace(list_name(number, planned[-1].sha256), content)  # of an earlier plan too: it may be lost
        on_progress(len(shard.entries))
    if not planned:
        raise InputError("there are no images to plan", "name files, folders, archives or s3://BUCKET/PREFIX/")
    if earlier:
        if len(planned) < len(earlier.shards):
            raise OutputError(f"{folder.place} holds a run with more inputs", "--into another folder")
        return earlier
    document = Plan(recipe, tuple(planned)).document()
    if owner not in (None, document["id"]):
        raise OutputError(f"{folder.place} holds results of another plan, {owner[:12]}, without it", _WITHOUT_PLAN)
    if not folder.create(PLAN, (json.dumps(document, indent=1) + "\n").encode()):
        earlier = load_plan(folder)
        if earlier.id != document["id"]:
            raise OutputError(f"{folder.place} was given another plan meanwhile", "--into another folder")
    return Plan(recipe, tuple(planned), document["id"])


def _differing(folder: Folder, earlier: Plan, number: int, shard: Shard, size: int) -> OutputError:
    """Say what differs from an earlier plan at a shard: where it is cut, or what is in it."""
    largest = max(planned.images or 0 for planned in earlier.shards)
    is_last = number + 1 == len(earlier.shards)
    with suppress(InputError, IndexError):  # the list is lost, or there is no such shard
        if largest != size and _is_cut_otherwise(read_shard(folder, earlier, number), shard, size, is_last=is_last):
            return OutputError(
                f"{folder.place} holds a run of these inputs with another --shard-size than {size}",
                f"--shard-size {largest}, or --into another folder",
            )
    return OutputError(
        f"{folder.place} holds a run whose inputs differ from shard {number} on",
        "--into another folder, or `zeroshot run work` to go on with it",
    )


def _is_cut_otherwise(earlier: Shard, shard: Shard, size: int, *, is_last: bool) -> bool:
    """Say whether two shards begin alike, and where one of them ends its inputs went on."""
    one, other = ([_source_of(entry) for entry in each.entries] for each in (earlier, shard))
    shorter = min(len(one), len(other))
    before, now = earlier.images or 0, shard.images or 0
    return one[:shorter] == other[:shorter] and (size <= now < before or (0 < before < now and not is_last))


def _source_of(entry: Entry) -> tuple[str, int]:
    return (entry, 0) if isinstance(entry, str) else (entry.archive, entry.start)


def _find_owner(folder: Folder) -> str | None:
    """Return the id of the plan that results in a folder are of: None without any, empty where none of them says so."""
    for name in folder.names("done"):
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            return str(json.loads(folder.read(f"done/{name}"))["plan"])
    return None if next(iter(folder.names("parts")), None) is None else ""


def load_plan(folder: Folder) -> Plan:
    """Read a plan.

    Raises:
        InputError: There is none, or it is not as it was written.
    """
    plan = find_plan(folder)
    if plan is None:
        raise InputError(
            f"{folder.place} does not hold a run", "`zeroshot run plan INPUTS --labels A,B --into RUN` makes one"
        )
    return plan


def find_plan(folder: Folder) -> Plan | None:
    """Return the plan in a folder; None where there is none.

    Raises:
        InputError: It is not as it was written.
    """
    try:
        document = json.loads(folder.read(PLAN))
        if document["format"] != FORMAT:
            raise _unusable(folder, "it is not the plan of a run", "name the folder of a run, or an empty one")
        if document["version"] != VERSION:
            problem = f"it has version {document['version']}, and this zeroshot reads {VERSION}"
            raise _unusable(folder, problem, "use the version of zeroshot that planned the run")
        shards = tuple(Planned(entry["images"], entry["sha256"]) for entry in document["shards"])
        plan = Plan(document["recipe"], shards, document["id"])
        if plan.document()["id"] != plan.id:
            raise ValueError("it is not as it was written: its id is that of another plan")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        again = f"remove {folder.place}/{PLAN} and give the same `zeroshot run plan` command again"
        raise _unusable(folder, str(error), f"{again}: what is committed is kept") from error
    return plan


def _unusable(folder: Folder, problem: str, hint: str) -> InputError:
    return InputError(f"{folder.place}/{PLAN} cannot be used: {problem}", hint)


def list_name(number: int, sha256: str) -> str:
    """Return what a shard's list is called, whose content has a hash."""
    return f"inputs/{number:05d}-{sha256[:16]}.jsonl"


def read_shard(folder: Folder, plan: Plan, number: int) -> Shard:
    """Read the list of a shard.

    Raises:
        InputError: It is not there, or not the one that was planned.
    """
    sha256 = plan.shards[number].sha256
    name = list_name(number, sha256)
    try:
        content = folder.read(name)
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"{folder.place}/{name} is gone, or not the list that was planned",
            "the same `zeroshot run plan` command again restores it",
        )
    return Shard(tuple(parse_entries(content)), plan.shards[number].images)


def numbers(plan: Plan, share: tuple[int, int] = (1, 1)) -> Iterator[int]:
    """Yield the numbers of the shards of a share: every N-th, from the I-th on."""
    part, parts = share
    yield from range(part - 1, len(plan.shards), parts)
