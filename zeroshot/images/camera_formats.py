"""Formats of phones and cameras, which need the extra `formats`: HEIC through pillow-heif, RAW through rawpy.

Of a camera's RAW file the embedded preview is used: its pixels are the camera's own rendering, not a development of
the sensor's values, and it is as large as the camera chose to store it. HEIC is turned upright by its container.
"""

from __future__ import annotations

import importlib.util
import io
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import PurePath
from typing import IO, Any, BinaryIO, cast

from PIL import Image

from ..errors import ImageError
from ..system.installed import how_to_install
from .rgb import is_tiff

_EXTRA = "formats"


HEIF_SUFFIXES = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif"))
RAW_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos", "mrw"),
        *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
_PASSED_OVER = frozenset(
    f".{ending}"
    for ending in (
        *("3gp", "ai", "avi", "cur", "dds", "eps", "exr", "hdr", "icns", "insv", "jxl", "m4v", "mkv", "mng", "mov"),
        *("mp4", "mpg", "mts", "pdf", "pfm", "psd", "svg", "webm", "wmv", "xcf"),
    )
)

NO_ENDING = "without an ending"
BY_CONTENT = "with the content but not the name of an image"
"""Stand where a count of files has an ending."""

_CLOSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
"""Archives that are not opened: what lies in them has no place of its own."""

_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_RAW_BEGINNINGS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")
_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}
"""What brings an image upright, by LibRaw's ``flip``."""


@cache
def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def readable_suffixes() -> frozenset[str]:
    """Return the endings that the installed packages add to Pillow's."""
    return (HEIF_SUFFIXES if _has("pillow_heif") else frozenset()) | (RAW_SUFFIXES if _has("rawpy") else frozenset())


@cache
def _named(readable: frozenset[str]) -> frozenset[str]:
    return (HEIF_SUFFIXES | RAW_SUFFIXES | _PASSED_OVER) - readable


def passed_over(name: str) -> str:
    """Return the ending of an image, video, drawing or archive that is not supported; else an empty text."""
    suffix = PurePath(name).suffix.lower()
    if suffix in _named(readable_suffixes()):
        return suffix
    folded = name.lower()
    return next((ending for ending in _CLOSED if folded.endswith(ending)), "")


def describe_passed_over(counts: Mapping[str, int], archives: Collection[str] = ()) -> str:
    """Return one line on the files that were passed over, by ending, such as ``1 file was passed over: 1 .mov``.

    Args:
        counts: How many there were, by ending.
        archives: The endings that --archives opens, where there is such an option.
    """
    total = sum(counts.values())
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in Counter(counts).most_common())
    curable = sorted(set(counts) & (HEIF_SUFFIXES | RAW_SUFFIXES))
    closed = sorted(set(counts) & set(archives))
    packed = sorted(set(counts) & set(_CLOSED))
    hints = [f"{how_to_install(_EXTRA)} reads {', '.join(curable)}"] * bool(curable)
    hints += [f"--archives opens {', '.join(closed)}"] * bool(closed)
    hints += [f"unpack {', '.join(packed)}, or pack it as .tar or .zip"] * bool(packed)
    hints += ["rename them to end as images do, or name each file itself"] * (BY_CONTENT in counts)
    how = f" ({'; '.join(hints)})" if hints else ""
    return f"{total} {'file was' if total == 1 else 'files were'} passed over: {kinds}{how}"


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or HEIF; AVIF is Pillow's own."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head


def is_raw(head: bytes) -> bool:
    """Whether a file that begins so is a camera's RAW file; those that are plain TIFF show in `is_raw_tiff`."""
    canon = head[8:10] == b"CR" or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR"
    return canon or head.startswith(_RAW_BEGINNINGS)


def is_raw_tiff(image: Image.Image) -> bool:
    """Whether what Pillow opens as TIFF is the thumbnail of a RAW file, whose image lies in a folder below."""
    if not is_tiff(image):
        return False
    tags = image.tag_v2
    return _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags)


@cache
def register_heif() -> None:
    """Have Pillow open HEIC.

    Raises:
        ImageError: The package is missing.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(f"HEIC is not read by Pillow alone ({how_to_install(_EXTRA)} adds it)") from error
    pillow_heif.register_heif_opener()


def raw_size(file: IO[bytes]) -> tuple[int, int]:
    """Return the width and height of a RAW file's image in pixels, which its preview may fall far below.

    Raises:
        ImportError: The package is missing.
        rawpy.LibRawError: It is no RAW file.
    """
    import rawpy

    file.seek(0)
    with rawpy.imread(cast(BinaryIO, file)) as raw:
        return raw.sizes.width, raw.sizes.height


def open_preview(file: IO[bytes]) -> tuple[IO[bytes], Image.Transpose | None]:
    """Return a RAW file's preview as a file object, and the rotation that it needs if the preview does not state one.

    Raises:
        ImageError: The package is missing, or the file has no preview.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError(f"camera RAW is not read by Pillow ({how_to_install(_EXTRA)} adds its previews)") from error
    file.seek(0)
    try:
        with rawpy.imread(cast(BinaryIO, file)) as raw:
            preview: Any = raw.extract_thumb()
            turn = _TURNS.get(raw.sizes.flip)
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        raise ImageError("a camera's RAW file without a preview that can be read") from error
    except rawpy.LibRawError as error:  # its text is bytes
        raise ImageError(f"damaged: {error.args[0].decode('ascii', 'replace')}") from error
    if preview.format is rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(preview.data)) as image:
            turn = None if 0x0112 in image.getexif() else turn
        return io.BytesIO(preview.data), turn
    stream = io.BytesIO()
    Image.fromarray(preview.data).save(stream, "BMP")
    stream.seek(0)
    return stream, turn
