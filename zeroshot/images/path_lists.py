"""Lists of paths, from a file or stdin, read as they arrive."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import InputError

STDIN = "-"
"""What stands for stdin where a file or a folder is named."""


def read_list(stream: BinaryIO, *, nul: bool = False) -> Iterator[str]:
    """Yield the paths of a list as they arrive: one per line, or NUL-separated.

    Bytes that are not valid in the file system's encoding become surrogate escapes. Empty lines are skipped.

    Raises:
        InputError: It is NUL-separated after all, or no list.
    """
    separator = b"\0" if nul else b"\n"
    rest = b""
    read = getattr(stream, "read1", stream.read)
    first, some = True, False
    while chunk := read(65536):
        chunk, first = chunk.removeprefix(codecs.BOM_UTF8) if first else chunk, False  # as Windows' editors write it
        *whole, rest = (rest + chunk).split(separator)
        some = some or bool(whole)
        yield from _decode(whole, nul)
    if nul and not some and b"\n" in rest and not os.path.lexists(rest):
        raise InputError("the list of paths holds lines, and no NUL characters", "leave out --from0")
    yield from _decode([rest], nul)


def _decode(names: Iterable[bytes], nul: bool) -> Iterator[str]:
    for name in names:
        path = name if nul else name.removesuffix(b"\r")
        if b"\0" in path:
            raise InputError(
                "the list of paths holds NUL characters", "--from0 reads lists as `find -print0` writes them"
            )
        if path:
            yield os.fsdecode(path)


def open_list(source: str) -> BinaryIO:
    """Open a list of paths: a file, or stdin for ``-``.

    Raises:
        InputError: The file cannot be read.
    """
    if source == STDIN:
        try:
            # Not sys.stdin's own buffer: a thread that waits in it holds a lock that the interpreter wants as it exits.
            return cast(BinaryIO, io.FileIO(sys.stdin.fileno(), closefd=False))
        except (io.UnsupportedOperation, ValueError):  # a stand-in without a file behind it
            return sys.stdin.buffer
    try:
        if Path(source).is_dir():
            raise InputError(f"{source} is a folder, not a list of paths", "name the folder itself as an input")
        return Path(source).open("rb")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the list {source}: {getattr(error, 'strerror', error)}",
            "give a file with one path a line, or -",
        ) from error
