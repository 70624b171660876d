"""Where bytes go: stdout, or a file that appears under its name only when it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from ..system.disk import BusyError, kept_locked, open_locked
from .sidecar import read_sidecar, remove_sidecar


def partial_path(target: Path) -> Path:
    """Return the name under which a file is written until it is whole."""
    return target.with_name(target.name + ".partial")


def final_path(target: Path) -> Path:
    """Return where a file will stand; one that is written through a link leaves the link a link.

    Raises:
        OutputError: No file can stand there.
    """
    try:
        if target.is_dir():
            raise OutputError(f"--output {target} is a folder", "name a file in it")
        return target.resolve()
    except (OSError, RuntimeError) as error:  # a name that is too long; a loop of links
        raise OutputError(
            f"cannot write {target}: {getattr(error, 'strerror', None) or error}", "give another --output"
        ) from error


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
    with _naming_errors(str(target), "look at its folder and the free space, or give another --output"):
        if target.exists() and not target.is_file():
            with target.open("wb") as device:  # /dev/null, a pipe: a file must not take its place
                yield device
            return
        partial = partial_path(final)
        try:
            descriptor = open_locked(partial)
        except BusyError as error:
            raise OutputError(f"another run is writing {target}", "wait for it, or give another --output") from error
        with kept_locked(descriptor):  # until the partial file has its name or is gone: it is nobody else's before
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if partial.stat().st_size and read_sidecar(final):
                        raise _ResumableError(
                            f"{partial} holds the records of a run that can be continued",
                            "add --resume to continue it, or remove that file to begin anew",
                        )
                    # It tells how other records were made, and would have a later --resume continue these.
                    remove_sidecar(final)
                    file.truncate(0)  # what an interrupted run left
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(final)
            except (KeyboardInterrupt, _ResumableError):
                raise
            except BaseException:
                partial.unlink(missing_ok=True)
                raise


class _ResumableError(OutputError):
    """The place is taken by records that should not be lost."""


@contextmanager
def _naming_errors(name: str, hint: str) -> Iterator[None]:
    """Say what could not be written; a reader that closed its pipe has had enough, which is no error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}", hint) from error
