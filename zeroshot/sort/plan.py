"""Turns records into a plan: which image goes where, and which stays and why. No file is changed here.

The whole plan is made before its first step, so that a dry run prints what a run does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..enums import Placement
from ..images.sources.names import scheme_of, split_member
from ..results import Failure, Record
from .names import REVIEW, fold, numbered_file

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One image that goes to a place.

    Attributes:
        path: As the user gave it.
        source: Where the image is, absolute.
        target: Where it goes; nothing stood there when the plan was made.
        placement: How.
        size: Bytes of the image when the plan was made.
        mtime_ns: When it was last changed.
        label: Its label; None for `_review`.
        probability: Of the best label.
    """

    path: str
    source: Path
    target: Path
    placement: Placement
    size: int
    mtime_ns: int
    label: str | None
    probability: float


@dataclass(frozen=True, slots=True)
class Stay:
    """One image that stays where it is.

    Attributes:
        path: As the user gave it.
        reason: Why, in one line.
        failed: Whether it was to be sorted and could not be; false where all is as it should be.
    """

    path: str
    reason: str
    failed: bool
    repeats: bool = False
    """Whether another input of the same name and content takes its place."""


def make_plan(
    records: Iterable[Record],
    into: Path,
    folders: Mapping[str, str],
    placement: Placement,
    outside: Container[str] = (),
) -> Iterator[Step | Stay]:
    """Yield the step or stay of each record's image, in order.

    A name that is taken by the same content leaves the image where it is, as sorted already; by other content,
    gives the newcomer a number. Names that differ only in case count as the same.

    Args:
        records: What `classify` said.
        into: The folder to sort into, resolved; it need not exist.
        folders: The folder's name of each label (see `names.folder_names`).
        placement: How images get there.
        outside: Images that are not moved, because a link led to them (see `select_inputs`).
    """
    shelves: dict[Path, _Shelf] = {}
    sources: set[Path] = set()
    for record in records:
        if isinstance(record, Failure):
            yield Stay(record.path, f"cannot be read: {record.error}", failed=True)
            continue
        if split_member(record.path) or scheme_of(record.path):
            yield Stay(record.path, "is no file of its own: it lies in an archive or a store", failed=True)
            continue
        if placement is Placement.MOVE and record.path in outside:
            reason = "lies outside the input: a link leads there (name that folder itself, or leave out --move)"
            yield Stay(record.path, reason, failed=True)
            continue
        folder = into / (REVIEW if record.label is None else folders[record.label])
        try:
            source = locate(record.path)
            if source.is_symlink():
                if placement is Placement.MOVE:
                    yield Stay(
                        record.path,
                        "is a symbolic link, which moving could break (leave out --move, or --copy it)",
                        failed=True,
                    )
                    continue
                name, source = source.name, source.resolve(strict=True)
            else:
                name = source.name
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError("no longer a regular file")
            if source in sources:
                yield Stay(record.path, "is the same file as an input before it", failed=False)
                continue
            shelf = shelves.get(folder) or shelves.setdefault(folder, _Shelf(folder))
            target, holder = shelf.find_place(source, name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            yield Stay(record.path, f"cannot be sorted: {getattr(error, 'strerror', None) or error}", failed=True)
            continue
        if target is None:
            repeats = holder.parent != folder
            reason = f"{holder}, of the same name and content, goes there" if repeats else f"is in {folder} already"
            yield Stay(record.path, reason, failed=False, repeats=repeats)
            continue
        sources.add(source)
        yield Step(
            record.path, source, target, placement, status.st_size, status.st_mtime_ns, record.label, record.probability
        )


def locate(path: str) -> Path:
    """Return where a path's last component is, absolute: folders resolved, the file itself not."""
    given = Path(path)
    return given.parent.resolve() / given.name


class _Shelf:
    """The names of one target folder: those that exist and those that are planned."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            names = [entry.name for entry in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError):
            names = []
        # Where the content of each name is: beside it, or still at its source.
        self._holders = {fold(name): folder / name for name in names}

    def find_place(self, source: Path, name: str) -> tuple[Path | None, Path]:
        """Return a free place for an image, None where its content has its name already, and where that content is."""
        for candidate in numbered_file(name):
            holder = self._holders.get(fold(candidate))
            if holder is None:
                self._holders[fold(candidate)] = source
                return self._folder / candidate, source
            if same_content(source, holder):
                return None, holder
        raise AssertionError("numbers do not end")


def same_content(first: Path, second: Path) -> bool:
    """Whether two paths hold the same bytes; false where one is not a regular file or cannot be read."""
    try:
        one, other = first.stat(), second.stat()
        if not (stat.S_ISREG(one.st_mode) and stat.S_ISREG(other.st_mode)) or one.st_size != other.st_size:
            return False
        if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
            return True
        with first.open("rb") as left, second.open("rb") as right:
            while block := left.read(_CHUNK):
                if block != right.read(_CHUNK):
                    return False
            return not right.read(1)
    except OSError:
        return False


def select_inputs(
    inputs: Iterable[tuple[str, str]], into: Path, folders: Iterable[str], outside: set[str] | None = None
) -> Iterator[str]:
    """Leave out what an earlier run sorted, where the folder to sort into lies inside an input.

    Below an input that is that folder itself, the folders of this run's labels are left out; below one that
    contains it, all of it is. An input that lies inside it is taken as a user named it.

    Args:
        inputs: Each found path with the input that it was found under.
        into: The folder to sort into, resolved.
        folders: Names of the folders that this run may fill.
        outside: Takes the paths that a link below their input led to, outside of it.
    """
    own = {fold(name) for name in (*folders, REVIEW)}
    roots: dict[str, Path] = {}
    parents: dict[Path, Path] = {}
    for path, given in inputs:
        root = roots.get(given) or roots.setdefault(given, Path(given).resolve())
        parent = Path(path).parent
        place = parents.get(parent) or parents.setdefault(parent, parent.resolve())
        if into.is_relative_to(root) and place.is_relative_to(into):
            below = place.relative_to(into).parts
            if root != into or (below and fold(below[0]) in own):
                continue
        if outside is not None and path != given and not place.is_relative_to(root):
            outside.add(path)
        yield path
