"""Turns records into a plan: which image goes where, and which stays and why. No file is changed here.

The whole plan is made before its first step, so that a dry run prints what a run does.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from errno import EEXIST
from pathlib import Path

from ..enums import Placement
from ..errors import ImageError
from ..images.misnamed_images import find_ending
from ..images.sources.image_names import join_member, scheme_of, split_member
from ..images.sources.open_image import open_file
from ..results import Failure, Prediction, Record
from .names import REVIEW, fold, numbered_file, safe_file_name

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One image that goes to a place.

    Attributes:
        path: As the user gave it.
        source: Where the image is, absolute; of a member its archive, if that is a file, else the target's folder.
        target: Where it goes; nothing stood there when the plan was made.
        placement: How.
        size: Bytes of the source when the plan was made; 0 where it is no file.
        mtime_ns: When it was last changed.
        label: Its label; None for `_review`.
        probability: Of the best label; NaN where none was measured.
        member: What an image in an archive or a store is opened by; empty for a file.
        nearly: The best label of one that goes to `_review`.
    """

    path: str
    source: Path
    target: Path
    placement: Placement
    size: int
    mtime_ns: int
    label: str | None
    probability: float
    member: str = ""
    nearly: str = ""


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
    """Whether another input is the same image, or takes its place with the same name and content."""


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
    members: set[str] = set()
    for record in records:
        if isinstance(record, Failure):
            yield Stay(record.path, f"cannot be read: {record.error}", failed=True)
            continue
        if lies_in_container(record.path):
            folder = into / (REVIEW if record.label is None else folders[record.label])
            shelf = shelves.get(folder) or shelves.setdefault(folder, _Shelf(folder))
            yield _plan_copy(record, shelf, placement, members)
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
                        "is a symbolic link, which is not moved (leave out --move, or --copy it)",
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
                yield Stay(record.path, "is the same file as an input before it", failed=False, repeats=True)
                continue
            shelf = shelves.get(folder) or shelves.setdefault(folder, _Shelf(folder))
            target, holder = shelf.find_place(source, name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            yield Stay(record.path, f"cannot be sorted: {getattr(error, 'strerror', None) or error}", failed=True)
            continue
        sources.add(source)  # also where it is placed already: a link to it is no further image
        if target is None:
            yield shelf.stay(record.path, holder)
            continue
        yield Step(
            record.path, source, target, placement, status.st_size, status.st_mtime_ns, record.label,
            record.probability, nearly=_nearly(record),
        )  # fmt: skip


def lies_in_container(path: str) -> bool:
    """Whether an image is no file of its own, but a member of an archive or an object of a store."""
    return bool(split_member(path) or scheme_of(path))


def _plan_copy(record: Prediction, shelf: _Shelf, placement: Placement, members: set[str]) -> Step | Stay:
    """Plan to copy an image out of an archive or a store.

    Args:
        record: Of the image.
        shelf: Where it goes.
        placement: As asked; nothing is moved out of there.
        members: Those that are planned already.
    """
    path = record.path
    if placement is Placement.MOVE:
        reason = "lies in an archive or a store, which nothing is moved out of (--copy copies it)"
        return Stay(path, reason, failed=True)
    archive, member = split_member(path) or ("", path)
    try:
        source, opened = shelf.folder, path
        size = mtime_ns = 0
        if archive and not scheme_of(archive):
            source = locate(archive).resolve(strict=True)
            status = source.stat()
            size, mtime_ns, opened = status.st_size, status.st_mtime_ns, join_member(str(source), member)
        if opened in members:
            return Stay(path, "is the same image as an input before it", failed=False, repeats=True)
        name = safe_file_name(member)
        if "." not in name:  # such as a row of a Parquet file: by its number alone no command would find the copy
            name += find_ending(read_content(opened) or b"")
        target, holder = shelf.find_place(opened, name)
    except (OSError, RuntimeError) as error:
        return Stay(path, f"cannot be sorted: {getattr(error, 'strerror', None) or error}", failed=True)
    members.add(opened)
    if target is None:
        return shelf.stay(path, holder)
    where = (path, source, target, Placement.COPY, size, mtime_ns)
    return Step(*where, record.label, record.probability, opened, _nearly(record))


def _nearly(record: Prediction) -> str:
    return record.top[0].label if record.label is None and record.top else ""


def locate(path: str) -> Path:
    """Return where a path's last component is, absolute: folders resolved, the file itself not."""
    given = Path(path)
    return given.parent.resolve() / given.name


class _Shelf:
    """The names of one target folder: those that exist and those that are planned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            names = [entry.name for entry in os.scandir(folder)]
        except NotADirectoryError:
            raise FileExistsError(EEXIST, f"{folder} is no folder: move it away, or sort --into another") from None
        except FileNotFoundError:
            names = []
        # Where the content of each name is: beside it, or still at its source.
        self._holders: dict[str, Path | str] = {fold(name): folder / name for name in names}

    def find_place(self, source: Path | str, name: str) -> tuple[Path | None, Path | str]:
        """Return a free place for an image, None where its content has its name already, and where that content is.

        Args:
            source: Where it is, or what it is opened by in an archive or a store.
            name: What it is to be called.
        """
        for candidate in numbered_file(name):
            holder = self._holders.get(fold(candidate))
            if holder is None:
                self._holders[fold(candidate)] = source
                return self.folder / candidate, source
            if isinstance(source, Path) and isinstance(holder, Path):
                same = same_content(source, holder)
            else:
                same = (found := read_content(source)) is not None and found == read_content(holder)
            if same:
                return None, holder
        raise AssertionError("numbers do not end")

    def stay(self, path: str, holder: Path | str) -> Stay:
        """Say that an image's content has its name already, there or as another input."""
        repeats = isinstance(holder, str) or holder.parent != self.folder
        reason = f"{holder}, of the same name and content, goes there" if repeats else f"is in {self.folder} already"
        return Stay(path, reason, failed=False, repeats=repeats)


def find_broken(links: Iterable[str], plan: Iterable[Step | Stay]) -> list[str]:
    """Return those of some symbolic links whose images move, so that they lead nowhere afterwards."""
    moved = {str(item.source) for item in plan if isinstance(item, Step) and item.placement is Placement.MOVE}
    return [link for link in links if moved and os.path.realpath(link) in moved]


def read_content(source: Path | str) -> bytes | None:
    """Return the content of a file, or of an image in an archive or a store; None where it cannot be read."""
    try:
        with open_file(str(source)) as file:
            return file.read()
    except ImageError:
        return None


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
    inputs: Iterable[tuple[str, str]],
    into: Path,
    folders: Iterable[str],
    outside: set[str] | None = None,
    left: Counter[str] | None = None,
) -> Iterator[str]:
    """Leave out what an earlier run sorted, where the folder to sort into lies inside an input.

    Below an input that is that folder itself, the folders of this run's labels are left out; below one that
    contains it, all of it is. An input that lies inside it is taken as a user named it.

    Args:
        inputs: Each found path with the input that it was found under.
        into: The folder to sort into, resolved.
        folders: Names of the folders that this run may fill.
        outside: Takes the paths that a link below their input led to, outside of it.
        left: Takes how many images were left out, by the folder they are below.
    """
    own = {fold(name) for name in (*folders, REVIEW)}
    roots: dict[str, Path] = {}
    parents: dict[Path, Path] = {}
    for path, given in inputs:
        parent = Path(path).parent
        try:
            root = roots.get(given) or roots.setdefault(given, Path(given).resolve())
            place = parents.get(parent) or parents.setdefault(parent, parent.resolve())
        except (OSError, RuntimeError):  # a link that leads to itself: whoever opens it says so
            yield path
            continue
        if into.is_relative_to(root) and place.is_relative_to(into):
            below = place.relative_to(into).parts
            if root != into or (below and fold(below[0]) in own):
                if left is not None:
                    left[str(into if root != into else into / below[0])] += 1
                continue
        if outside is not None and path != given and not place.is_relative_to(root):
            outside.add(path)
        yield path
