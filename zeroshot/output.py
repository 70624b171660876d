"""Where bytes go: stdout, or a file that appears under its name only when it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError


def partial_path(target: Path) -> Path:
    """Return the name under which a file is written until it is whole."""
    return target.with_name(target.name + ".partial")


@contextmanager
def open_output(target: Path | None) -> Iterator[BinaryIO]:
    """Open stdout (None), or a file beside its final name, renamed into place when the block ends well.

    Interrupted, the records so far stay in the ``.partial`` file; after an error it is removed.

    Raises:
        OutputError: The file cannot be written (no folder, no permission, a full disk).
    """
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if target.is_dir():
        raise OutputError(f"--output {target} is a folder", "name a file in it")
    partial = partial_path(target)
    try:
        file = partial.open("wb")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}", "give another --output") from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except KeyboardInterrupt:
        raise
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {target}: {error.strerror or error}", "free some space, or give another --output") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
