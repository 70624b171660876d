"""The plan that moves duplicates aside: each group's others go to a folder of their own. No file is changed here."""

from __future__ import annotations

import stat
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from ..enums import Placement
from ..images.sources.image_names import scheme_of, split_member
from .names import fold, numbered_file
from .plan import Stay, Step, locate


def plan_aside(
    groups: Sequence[Sequence[tuple[str, float]]], into: Path, outside: Container[str] = ()
) -> Iterator[Step | Stay]:
    """Yield the step or stay of each image that is to go aside; names that are taken get a number.

    Args:
        groups: For each group the paths of its images but the best, with their similarity to it, in [0, 1].
        into: The folder to move them to, resolved; it need not exist.
        outside: Images that are not moved, because a link led to them (see `plan.select_inputs`).
    """
    width = max(3, len(str(len(groups))))
    for number, group in enumerate(groups, 1):
        folder = into / f"{number:0{width}d}"
        taken = {fold(entry.name) for entry in folder.iterdir()} if folder.is_dir() else set()
        for path, similarity in group:
            if split_member(path) or scheme_of(path):
                yield Stay(path, "is no file of its own: it lies in an archive or a store", failed=True)
                continue
            if path in outside:
                yield Stay(path, "lies outside the input: a link leads there (name that folder itself)", failed=True)
                continue
            try:
                source = locate(path)
                if source.is_symlink():
                    yield Stay(path, "is a symbolic link, which is not moved", failed=True)
                    continue
                status = source.stat()
                if not stat.S_ISREG(status.st_mode):
                    raise OSError("no longer a regular file")
            except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
                yield Stay(path, f"cannot be moved: {getattr(error, 'strerror', None) or error}", failed=True)
                continue
            name = next(name for name in numbered_file(source.name) if fold(name) not in taken)
            taken.add(fold(name))
            yield Step(
                path, source, folder / name, Placement.MOVE, status.st_size, status.st_mtime_ns, None, similarity
            )
