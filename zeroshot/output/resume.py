"""Continue a results file where a run was cut short, so that the result is byte for byte that of one run.

Beside ``FILE`` stand ``FILE.partial``, to which records are only ever appended, and ``FILE.manifest.json``, which
is on the disk before the first of them and says what decides their bytes. A resumed run keeps the records that are
whole, and of those only full batches: it begins where a batch began, so that each image is encoded beside the same
images as in an unbroken run and no last digit can differ.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..enums import Format
from ..errors import InputError, OutputError, UsageError
from ..system.durable_files import BusyError, kept_locked, open_locked, sync_folder
from .destination import check_not_continued, check_writable, final_path, partial_path
from .partial_records import FORMATS, Recipe, beginning, beginning_of, count_records, whole_records
from .resume_manifest import (
    first_difference,
    read_resume_manifest,
    remove_resume_manifest,
    resume_manifest_path,
    write_resume_manifest,
)


@dataclass(frozen=True, slots=True)
class Resumed:
    """An open results file.

    Attributes:
        stream: Takes whole records.
        done: Records that it holds already.
        failed: How many of those are failures.
        complete: The file was finished by an earlier run; there is nothing to do.
        append: Paths without a record are added, wherever they stand among the inputs.
        source: The partial file, for `skip`.
        recipe: What the records are made by.
    """

    stream: BinaryIO
    done: int
    failed: int
    complete: bool
    source: Path
    recipe: Recipe
    append: bool = False

    def skip(self, paths: Iterator[str]) -> Iterator[str]:
        """Yield the paths that have no record yet, once those that have one are the first of the paths.

        Raises:
            InputError: A recorded path is not the one in its place now, or a complete file lacks one.
        """
        if self.append:
            with self.source.open("rb") as file:
                rows = zip(range(self.done), whole_records(file, self.recipe.form), strict=False)
                known = {beginning_of(record, self.recipe.form) for _, (record, _) in rows}
            yield from (path for path in paths if beginning(path, self.recipe) not in known)
            return
        if self.done:
            with self.source.open("rb") as file:
                for number, (record, _) in zip(
                    range(1, self.done + 1), whole_records(file, self.recipe.form), strict=False
                ):
                    path = next(paths, None)
                    if path is None or not record.startswith(beginning(path, self.recipe)):
                        now = "there is none" if path is None else f"it is {path} now"
                        raise InputError(
                            f"input {number} is another than when this run began: {now}, and the record is"
                            f" {record[:80].decode('utf-8', 'replace').strip()} ...",
                            "--append adds other inputs; else give the same ones in the same order, or another --output"
                            if self.complete
                            else "give the same inputs in the same order, or start over without the partial file",
                        )
        if self.complete and (more := next(paths, None)) is not None:
            raise InputError(
                f"the file is complete with {self.done} records, and {more} is not among their inputs",
                "--append adds the new ones; else give the inputs that it was made from, or another --output",
            )
        yield from paths


class _Appender(io.RawIOBase):
    """Writes each record with one call of the system, so that a kill can cut only the last one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(data)


def check_resumable(target: Path, form: Format) -> None:
    """Refuse a file that `open_resumable` could not write, before the work whose results it is for.

    Raises:
        OutputError: The place is none that can be continued, or cannot be written.
        UsageError: The format is none that can be continued.
    """
    check_writable(target, _continuable(target, form), continued=True)


def _continuable(target: Path, form: Format) -> Path:
    """Return where a file that can be continued will stand."""
    if form not in FORMATS:
        raise UsageError(
            f"a {form} file is one document, which --resume and --append cannot continue",
            f"--format {' or '.join(FORMATS)}",
        )
    final = final_path(target)
    if target.exists() and not target.is_file():
        raise OutputError(f"--resume and --append: {target} is not a regular file", "give another --output")
    return final


@contextmanager
def open_resumable(target: Path, recipe: Recipe, *, anew: bool = False, append: bool = False) -> Iterator[Resumed]:
    """Open a results file to begin or continue it; it gets its name when the block ends well, and stays otherwise.

    Args:
        target: The file.
        recipe: What decides its bytes.
        anew: Begin it, in place of a file of that name; records that can be continued are not lost for it.
        append: Add to it whatever has no record yet, also where it is complete; it stays whole until that is done.

    Raises:
        OutputError: It cannot be written, another run is writing it, or it was made by something else.
    """
    target = _continuable(target, recipe.form)
    partial = partial_path(target)
    try:
        descriptor = open_locked(partial)
    except BusyError as error:
        raise OutputError(f"another run is writing {target}", "wait for it, or interrupt it") from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}", "give another --output") from error
    # Windows renames and removes only what is closed; the lock outlasts that.
    file = io.FileIO(descriptor, "r+")
    try:
        if anew:
            _begin_anew(target, descriptor, recipe)
        complete = not anew and _prepare(target, partial, file, recipe)
        if complete and append:
            with target.open("rb") as whole, partial.open("wb") as copy:
                shutil.copyfileobj(whole, copy)
            complete = False
        with (target if complete else partial).open("rb") as read:
            done, failed, end = count_records(read, recipe, whole_batches=not (complete or append))
        if complete:
            _remove(partial, file)
            yield Resumed(io.BytesIO(), done, failed, True, target, recipe)
            return
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        stream: Any = _Appender(descriptor)
        yield Resumed(stream, done, failed, False, partial, recipe, append)
        os.fsync(descriptor)
        with kept_locked(descriptor):
            file.close()
            partial.replace(target)
        sync_folder(target.parent)
        if anew:
            remove_resume_manifest(target)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}",
            f"the records so far are in {partial}; free some space, then run the same command "
            + ("with --resume, and without --report if there is one" if anew else "again"),
        ) from error
    finally:
        file.close()


def _remove(partial: Path, file: io.FileIO) -> None:
    with kept_locked(file.fileno()):
        file.close()
        partial.unlink()


def _begin_anew(target: Path, descriptor: int, recipe: Recipe) -> None:
    """Empty the partial file and write the manifest of a new one."""
    check_not_continued(target, descriptor)
    remove_resume_manifest(target)  # should this stop between the two, nothing tells of other records
    os.ftruncate(descriptor, 0)
    write_resume_manifest(target, recipe.document())


def _prepare(target: Path, partial: Path, file: io.FileIO, recipe: Recipe) -> bool:
    """Check what an earlier run left, or write the manifest of a new one.

    Returns:
        Whether the file is complete.
    """
    resume_manifest, document = resume_manifest_path(target), recipe.document()
    begun = os.fstat(file.fileno()).st_size > 0
    recorded = read_resume_manifest(target)
    if target.exists() or begun:
        place = partial if begun else target
        if recorded is None:
            if not begun:
                _remove(partial, file)
            raise OutputError(
                f"{place} exists, and no {resume_manifest.name} says how it was made, so it cannot be continued",
                "move it out of the way and begin with --resume, or give another --output",
            )
        if difference := first_difference(recorded, document):
            if not begun:
                _remove(partial, file)
            raise OutputError(
                f"{place} was made with something else: {difference}",
                "run the command that it was made with, or give another --output",
            )
        return not begun
    write_resume_manifest(target, document)
    return False
