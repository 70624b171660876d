"""An image on stdin where a list of paths is expected."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import InputError


def look_for_image(stream: BinaryIO, spooled: dict[str, str] | None) -> tuple[BinaryIO, str]:
    """Find out whether stdin holds an image instead of a list of paths.

    Args:
        stream: Stdin.
        spooled: As in `InputOptions.find`.

    Returns:
        A stream of all that stdin holds, and the file that an image was copied to, which goes as the program ends;
        empty where there is none.

    Raises:
        InputError: It is an image, and the command takes none there.
    """
    import atexit
    import tempfile

    from ..images.decode import looks_like_image
    from ..images.path_lists import STDIN

    head = getattr(stream, "read1", stream.read)(65536)
    if head.startswith((b"PK\3\4", b"\x1f\x8b")) or head[257:262] == b"ustar":
        raise InputError(
            "stdin holds an archive, not a list of paths", "save it and name the file: .tar and .zip are opened"
        )
    if head.startswith(b"%PDF"):
        raise InputError("stdin holds a PDF, not a list of paths", "convert its pages to images first")
    if not looks_like_image(head):
        return cast(BinaryIO, _Joined(head, stream)), ""
    if spooled is None:
        raise InputError("stdin holds an image, not a list of paths", "name the file, or give a list of paths")
    with tempfile.NamedTemporaryFile(prefix="zeroshot-", delete=False) as copy:
        place = f"/proc/{os.getpid()}/fd/{os.dup(copy.fileno())}"  # on Linux: a name that goes with this process
        if Path(place).exists():
            Path(copy.name).unlink()
        else:
            place = copy.name
            atexit.register(Path(place).unlink, missing_ok=True)
        copy.write(head)
        shutil.copyfileobj(stream, copy)
    spooled[place] = STDIN
    return stream, place


class _Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return some of the bytes that follow, as they come; nothing at the end."""
        head, self._head = self._head, b""
        chunk: bytes = head or getattr(self._stream, "read1", self._stream.read)(size)
        return chunk
