"""Tells how many file descriptors this process may still open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import ResourceError

_RESERVE = 20
"""Descriptors left for the model's files, the cache, outputs and modules that are imported late."""

_ASSUMED_OPEN = 16  # where they cannot be counted

_FULL = (errno.EMFILE, errno.ENFILE)


def affordable_workers(asked: int, each: int) -> int:
    """Return the number of workers that the limit on open files allows: at most as many as asked for, at least one.

    Args:
        asked: The number wanted.
        each: Descriptors that one takes.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return asked
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return asked
    try:
        listing = next((folder for folder in map(Path, ("/proc/self/fd", "/dev/fd")) if folder.is_dir()), None)
        taken = len(list(listing.iterdir())) if listing else _ASSUMED_OPEN
    except OSError:  # no descriptor is left for it
        return 1
    return max(1, min(asked, (limit - taken - _RESERVE) // each))


def check_descriptors(error: Exception) -> None:
    """Raise a clear error if a failure comes from running out of file descriptors; else return.

    Raises:
        ResourceError: No further file can be opened.
    """
    found = error
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as none_left:
        found = none_left
    if isinstance(found, OSError) and found.errno in _FULL:
        raise ResourceError(
            "the limit on open files is reached",
            "fewer --workers, or a higher limit: `ulimit -n 4096`",
        ) from error
