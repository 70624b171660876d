"""A camera's RAW file (DNG) with a preview, small enough to be written by hand."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_CODES = {1: "B", 3: "H", 4: "I"}
_Entry = tuple[int, int, list[int] | bytes]


def make_dng(preview: Image.Image, orientation: int = 1) -> bytes:
    """Return a DNG: the first folder is the preview, its subfolder a sensor of 64 x 64 values."""
    stream = io.BytesIO()
    preview.save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue().ljust(len(stream.getvalue()) + len(stream.getvalue()) % 2, b"\0")
    sensor = np.full((64, 64), 1000, "<u2").tobytes()
    start = 8 + len(jpeg) + len(sensor)

    def outer(sub: int) -> bytes:
        entries: list[_Entry] = [(254, 4, [1]), (256, 4, [preview.width]), (257, 4, [preview.height])]
        entries += [(258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [6]), (271, 2, b"Make\0"), (272, 2, b"Model\0")]
        entries += [(273, 4, [8]), (274, 3, [orientation]), (277, 3, [3]), (278, 4, [preview.height])]
        entries += [(279, 4, [len(jpeg)]), (330, 4, [sub]), (50706, 1, [1, 4, 0, 0]), (50708, 2, b"Model X\0")]
        return _folder(entries, start)

    inner_start = start + len(outer(0))
    inner: list[_Entry] = [(254, 4, [0]), (256, 4, [64]), (257, 4, [64]), (258, 3, [16]), (259, 3, [1])]
    inner += [(262, 3, [32803]), (273, 4, [8 + len(jpeg)]), (277, 3, [1]), (278, 4, [64]), (279, 4, [len(sensor)])]
    inner += [(33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2])]
    head = struct.pack("<2sHI", b"II", 42, start)
    return head + jpeg + sensor + outer(inner_start) + _folder(inner, inner_start)


def _folder(entries: list[_Entry], start: int) -> bytes:
    behind = start + 2 + 12 * len(entries) + 4
    table, data = b"", b""
    for tag, kind, values in entries:
        raw = values if isinstance(values, bytes) else b"".join(struct.pack("<" + _CODES[kind], v) for v in values)
        if len(raw) <= 4:
            table += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
        else:
            table += struct.pack("<HHII", tag, kind, len(values), behind + len(data))
            data += raw + bytes(len(raw) % 2)
    return struct.pack("<H", len(entries)) + table + bytes(4) + data
