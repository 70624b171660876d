"""Opens the destination of bytes: stdout, or a file that appears under its name only when it is whole."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from ..images.camera_formats import HEIF_SUFFIXES, RAW_SUFFIXES
from ..images.decode import SUFFIXES
from ..images.sources.image_names import scheme_of
from ..system.durable_files import BusyError, kept_locked, open_locked
from ..system.signals import held_back
from .resume_manifest import read_resume_manifest, remove_resume_manifest

_FILES_OF_RUN = ("plan.json", "inputs", "parts", "done")
_HEAD = 200
"""Bytes at the beginning of a plan, in which `distribute` writes what it is."""

_HINT = "look at its folder and the free space, or name another file"


def partial_path(target: Path) -> Path:
    """Return the name under which a file is written until it is whole."""
    return target.with_name(target.name + ".partial")


def final_path(target: Path) -> Path:
    """Return where a file will stand; one that is written through a link leaves the link a link.

    Raises:
        OutputError: No file can stand there.
    """
    if str(target) == "-":
        raise OutputError(
            "cannot write -: it stands for stdout, not for a file",
            "name a file, or leave the option out where it may be, to write to stdout",
        )
    check_local(target)
    try:
        if target.is_dir():
            raise OutputError(f"cannot write {target}: it is a folder", "name a file in it")
        return target.resolve()
    except (OSError, RuntimeError) as error:  # a name that is too long; a loop of links
        raise OutputError(
            f"cannot write {target}: {getattr(error, 'strerror', None) or error}", "name another file"
        ) from error


def check_local(target: Path) -> None:
    """Refuse an address, of which a path has lost a slash.

    Raises:
        OutputError: It is one, and no folder of such a name is there.
    """
    address = str(target).replace(":/", "://", 1)
    if scheme_of(address) and not Path(target.parts[0]).exists():
        raise OutputError(
            f"cannot write {address}: outputs are files and folders of this machine", "name one here, and copy it there"
        )


def check_output(target: Path | None) -> None:
    """Refuse a file that `open_output` could not write, before the work whose results it is for.

    The folder, permissions, a disk that is read-only: only making a file there tells, and it is removed again.

    Raises:
        OutputError: The file cannot be written.
    """
    if target is not None:
        check_writable(target, final_path(target))


def check_writable(target: Path, final: Path, *, continued: bool = False) -> None:
    """Refuse a file that cannot be written; as `check_output`, with the place known.

    Args:
        target: The file as named.
        final: Where it will stand.
        continued: The records that an interrupted run left are wanted.
    """
    with _naming_errors(str(target), _HINT):
        if is_device(target):  # opening a pipe would wait for its reader
            return
        partial = partial_path(final)
        new = not partial.exists()
        with _locked_partial(target, final, continued=continued) as descriptor:
            os.close(descriptor)
            if new:
                partial.unlink()


def check_apart(written: Mapping[str, Path | None], read: Iterable[str | Path | None] = ()) -> None:
    """Refuse files that would take the place of each other, of what the run reads, or of an image.

    Args:
        written: The files by what they are called on the command line.
        read: What the run reads; folders and other things that are no file do not count.

    Raises:
        OutputError: Names the files.
    """
    places: dict[Path, str] = {}
    sources = [Path(source) for source in read if source is not None]
    for name, target in written.items():
        if target is None or is_device(target):
            continue
        final = final_path(target)
        made = (final, partial_path(final))  # it is written beside its place, and may be left there
        if taken := next((place for place in made if place in places), None):
            raise OutputError(f"{places[taken]} and {name} name the same file, {target}", "name two files")
        places |= dict.fromkeys(made, name)
        if final.suffix.lower() in SUFFIXES | HEIF_SUFFIXES | RAW_SUFFIXES and final.is_file():
            raise OutputError(f"{name} {target} is an image, which would be lost", "name another file")
        for place in made:
            if place.exists() and (_is_stdin(place) or any(_is_same(place, source) for source in sources)):
                where = "is a file" if place == final else f"is written to {place} first, a file"
                raise OutputError(f"{name} {target} {where} that this run reads", "name another file")
        if run := _find_run(final):
            raise OutputError(f"{name} {target} lies among the files of the run {run}", "name a file outside of it")


def _find_run(final: Path) -> Path | None:
    """Return the folder of the run whose plan, lists, parts or commits a file would lie among."""
    for place, folder in zip((final, *final.parents), final.parents, strict=False):
        if place.name in _FILES_OF_RUN and _holds_run(folder):
            return folder
    return None


def _holds_run(folder: Path) -> bool:
    try:
        with (folder / "plan.json").open("rb") as file:
            return b'"zeroshot-run"' in file.read(_HEAD)
    except OSError:
        return False


def may_replace(target: Path) -> bool:
    """Whether anything stands where a file will, or where it is written first."""
    return target.exists() or partial_path(final_path(target)).exists()


def _is_stdin(final: Path) -> bool:
    """Whether it is the file that a shell has put behind stdin: ``classify - -o list < list``."""
    try:
        return os.path.samestat(os.fstat(0), final.stat())
    except OSError:  # stdin is closed
        return False


def _is_same(final: Path, source: Path) -> bool:
    try:
        return source.is_file() and final.samefile(source)
    except (OSError, ValueError):  # a name that the system cannot look up is read nowhere
        return False


def check_folder(folder: Path) -> None:
    """Refuse a folder that nothing can be written to or below, before the work whose results it is for.

    Args:
        folder: It may be one that is yet to be made, with those above it.

    Raises:
        OutputError: Nothing can be made in it, or in the nearest that there is above it.
    """
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    try:
        with held_back():
            Path(tempfile.mkdtemp(prefix=".zeroshot-", dir=there)).rmdir()
    except OSError as error:
        raise OutputError(f"cannot write in {there}: {error.strerror or error}", "name another folder") from error


@contextmanager
def open_output(target: Path | None) -> Iterator[BinaryIO]:
    """Open stdout (None), or a file beside its final name, renamed into place when the block ends well.

    Interrupted, the records so far stay in the ``.partial`` file; after an error it is removed.

    Raises:
        OutputError: The file cannot be written (no folder, no permission, a full disk).
    """
    if target is None:
        with _naming_errors("stdout", "free some space, or give --output FILE"):
            try:
                yield sys.stdout.buffer
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise
            except OSError:
                with suppress(OSError):  # what is left in the buffer would fail once more as the interpreter exits
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise
        return
    final = final_path(target)
    with _naming_errors(str(target), _HINT):
        if is_device(target):
            with target.open("wb") as device:
                yield device
            return
        partial = partial_path(final)
        with _locked_partial(target, final) as descriptor:
            try:
                with os.fdopen(descriptor, "wb") as file:
                    # It tells how other records were made, and would have a later --resume continue these.
                    remove_resume_manifest(final)
                    file.truncate(0)  # what an interrupted run left
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(final)
            except KeyboardInterrupt:
                raise
            except BaseException:
                partial.unlink(missing_ok=True)
                raise


@contextmanager
def _locked_partial(target: Path, final: Path, *, continued: bool = False) -> Iterator[int]:
    """Open the partial file, and keep it locked until it has its name or is gone: it is nobody else's before.

    Args:
        target: The file as named.
        final: Where it will stand.
        continued: Records that can be continued are wanted.

    Raises:
        OutputError: The place is taken, by another run or by records that should not be lost.
    """
    partial = partial_path(final)
    try:
        descriptor = open_locked(partial)
    except BusyError as error:
        raise OutputError(f"another run is writing {target}", "wait for it, or name another file") from error
    with kept_locked(descriptor):
        if not continued:
            try:
                check_not_continued(final, descriptor)
            except OutputError:
                os.close(descriptor)
                raise
        yield descriptor


def check_not_continued(final: Path, descriptor: int) -> None:
    """Refuse to begin a file anew whose open partial file holds records that can be continued.

    Raises:
        OutputError: Names the partial file.
    """
    if os.fstat(descriptor).st_size and read_resume_manifest(final):
        raise OutputError(
            f"{partial_path(final)} holds the records of a run that can be continued",
            "add --resume to continue it, or remove that file to start over",
        )


def is_device(target: Path) -> bool:
    """Whether it is /dev/null or a pipe, whose place no file must take."""
    return target.exists() and not target.is_file()


@contextmanager
def _naming_errors(name: str, hint: str) -> Iterator[None]:
    """Say what could not be written; a reader that closed its pipe has had enough, which is no error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.ENOMEM:  # of what computes the records; a disk has other errors
            raise
        raise OutputError(f"cannot write {name}: {error.strerror or error}", hint) from error
