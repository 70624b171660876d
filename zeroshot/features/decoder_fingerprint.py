"""Hashes what decoding and resizing make of a few fixed images: a part of every cache key.

Another version of Pillow or of its libraries may change a pixel, or none: Pillow 13.0 reverses the two passes of a
resize in some shapes. Keys hold what is made, not the version that made it, so that an upgrade that changes nothing
costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, __version__, features

from .. import images
from ..encoder import Preprocessing
from ..images.decode import DecodeOptions, decode
from ..images.preprocess import fit

# 23 x 17 pixels with halved colour: encoding it here would measure the encoder too.
_JPEG = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAARABcDASIAAhEBAxEB/8QAGQABAQADAQAAAAAAAAAAAAAAAAUBAgMG/8QAIhAAAgEEAgEFAAAAAAAAAAAA"
    "AAECAwQFEQYhIiMxNDVB/8QAGAEBAAMBAAAAAAAAAAAAAAAABAABAgb/xAAkEQABAwIEBwAAAAAAAAAAAAABAAIDBHEFERI0BiEk"
    "MTJBUf/aAAwDAQACEQMRAD8A6UqkMb25J7J+YbqUXXS6Zitjri516j6NsldQp45Wrj5r9Ea+pL3NyceyuWM1cgMJ1NbzsrXGLqKs"
    "VsEzAxk7NNPQBT0z3SEulDT8yW3VGHA5SSAH2qVt7SPM5f5EgB9TvYrqcNeEtlZ4/wDXoAAMS3T7rg67cvuV/9k="
)
_SHAPES = ((20, 900), (900, 20), (200, 2000), (320, 240), (240, 320), (64, 64), (23, 17))
"""Width and height: squashed much in either direction, cropped, enlarged; those at which filters have differed."""
_STORED = (
    *(("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "GIF"), ("I;16", "PNG"), ("1", "PNG")),
    *(("F", "TIFF"), ("CMYK", "TIFF"), ("I;16", "TIFF"), ("I", "TIFF")),
)
"""Modes that become 8-bit RGB by a decision each, in formats that store them without loss."""


def who_opens(how: Preprocessing) -> bytes:
    """Return the name, 32 bytes, under which a `measure` is remembered: the installed versions and the preprocessing.

    Our own code is named by its content: in a checkout it changes without a version.
    """
    code = [path.read_bytes().decode() for path in sorted(Path(images.__file__).parent.glob("*.py"))]
    decisive = [__version__, str(features.version("jpg")), str(features.version("libtiff")), asdict(how), *code]
    return hashlib.sha256(json.dumps(decisive).encode()).digest()


def measure(how: Preprocessing) -> bytes:
    """Return a hash, 32 bytes, of what decoding and resizing make of the fixed images."""
    made = hashlib.sha256()
    for content in (_JPEG, *(_store(mode, kind) for mode, kind in _STORED)):
        made.update(fit(decode(BytesIO(content), DecodeOptions()), how).tobytes())
    for width, height in _SHAPES:
        made.update(fit(Image.fromarray(_pattern(height, width)), how).tobytes())
    return made.digest()


def _pattern(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an image with structure at every scale, by integer arithmetic alone: shape ``(height, width, 3)``."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 7 + columns * 3, rows * columns, (rows // 5) * 31 + (columns // 3) * 17]
    return (np.stack(planes, axis=-1) % 256).astype(np.uint8)


def _store(mode: str, kind: str) -> bytes:
    pattern = _pattern(29, 31)
    if mode == "I;16":
        image = Image.fromarray(pattern[..., 0].astype(np.uint16) * 257 + 5)
    elif mode in ("I", "F"):
        image = Image.fromarray(pattern[..., 1].astype(np.int32 if mode == "I" else np.float32) * 3)
    else:
        image = Image.fromarray(pattern).convert(mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray(pattern[..., 2]))
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()
