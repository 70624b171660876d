"""Which of the images found are taken: --exclude, --sample and --limit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ..errors import InputError
from ..messages import count_of
from . import console

Item = TypeVar("Item")
Name = Callable[[Item], tuple[str, str]]
"""Returns an item's path, and the input under which it was found."""


def leave_out(found: Iterator[Item], name: Name[Item], patterns: Sequence[str]) -> Iterator[Item]:
    """Leave out what a pattern matches: the path below its input, one of its parts or the whole path, as in a shell.

    Says in the end which patterns matched nothing, and may be misspelt.

    Raises:
        InputError: They left nothing, which may be a slip too.
    """
    unused = dict.fromkeys(patterns)
    left = out = 0
    for item in found:
        path, origin = name(item)
        below = path[len(origin) :] if path != origin and path.startswith(origin) else path
        names = [path, below.lstrip("/\\"), *Path(below).parts]
        matched = [pattern for pattern in patterns if any(fnmatchcase(one, pattern.rstrip("/")) for one in names)]
        for pattern in matched:
            unused.pop(pattern, None)
        out += bool(matched)
        if not matched:
            left += 1
            yield item
    for pattern in unused:
        console.note_last(f"--exclude {pattern} matched nothing")
    if out and not left:
        raise InputError(f"--exclude left out every input: {count_of(out, 'image')}", "give patterns that match fewer")


def take(found: Iterator[Item], sample: int | None, seed: int, limit: int | None) -> Iterator[Item]:
    """Take a random sample, in order, then the first so many of that; None takes everything."""
    if sample is not None:
        everything = list(found)
        chosen = random.Random(seed).sample(range(len(everything)), min(sample, len(everything)))
        found = (everything[index] for index in sorted(chosen))
    return found if limit is None else islice(found, limit)
