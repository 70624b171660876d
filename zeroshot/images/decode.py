"""Decode an image file of any mode to 8-bit RGB, or raise an error of one line.

Each kind of image has a decision (see the comments): what a user sees in a viewer is what the model gets.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import IO

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from ..enums import Resampler
from ..errors import ImageError, ZeroshotError
from ..system.file_descriptors import check_descriptors
from .camera_formats import is_heif, is_raw, is_raw_tiff, open_preview, register_heif
from .libtiff import silence as silence_libtiff
from .rgb import grey_range, to_rgb

SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("apng", "avif", "avifs", "bmp", "dib", "gif", "ico", "insp", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("jps", "jpx", "mpo", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "sgi", "tga", "tif", "tiff", "webp", "xbm"),
        "xpm",
    )
)
"""Endings by which a folder's images are found; a file that is named itself is opened whatever its ending."""

DEFAULT_MAX_PIXELS = 2 * 89_478_485
"""Largest image, in pixels, that is decoded: the limit at which Pillow itself refuses."""

MOST_BYTES = 28
"""Memory that a pixel takes at most on its way to 8-bit RGB, in bytes; measured, see `_bytes_per_pixel`."""

HEAD_BYTES = 32
"""What tells HEIC and most RAW formats."""

_DRAFT_MARGIN = 2
"""A draft is at least so many times as large as what it is resized to. Less moves probabilities about twice as far."""

_IN_ROWS = frozenset(("BMP", "DIB", "GIF", "JPEG", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "XBM", "XPM"))
"""Formats that Pillow decodes row by row, straight into the image."""

ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated image is a failure
# Filters are set once: `warnings.catch_warnings` changes global state, and images are opened in many threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL(\..*)?$")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by EXIF orientation."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How images are opened.

    Attributes:
        exif: Turn an image upright by its EXIF orientation. Off for published protocols, which do not.
        max_pixels: Images with more pixels are refused before they are decoded.
        memory: Bytes that one image may take; those that would take more are refused too. None: as much as it takes.
        draft: Decode large JPEGs at a part of their size, see `_draft`.
        resize: What brings them to the model's size afterwards.
    """

    exif: bool = True
    max_pixels: int = DEFAULT_MAX_PIXELS
    memory: int | None = None
    draft: bool = False
    resize: Resampler = Resampler.EXACT


_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"BM")
"""What files of common formats begin with."""


def looks_like_image(head: bytes) -> bool:
    """Whether bytes are the beginning of an image, rather than of a list of paths, which holds no NUL."""
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return b"\0" in head and (head.startswith(_MAGIC) or riff or head[4:8] == b"ftyp" or is_raw(head))


def decode(file: IO[bytes], how: DecodeOptions, edge: int = 0) -> Image.Image:
    """Decode an open file to an upright 8-bit RGB image.

    Args:
        file: Open for reading, at its beginning.
        how: How it is opened.
        edge: The side, in pixels, that it will be resized to; only drafts ask. 0: it is wanted as it is.

    Raises:
        ImageError: In one line, what is wrong with it; whatever Pillow raises becomes one.
    """
    try:
        if Image.MAX_IMAGE_PIXELS is not None and how.max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = how.max_pixels  # Pillow's own limit is global; it follows when ours is raised
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if is_heif(head):
            register_heif()
        if is_raw(head):
            return _decode_preview(file, how, edge)
        with Image.open(file) as image:
            if is_raw_tiff(image):
                return _decode_preview(file, how, edge)
            _check_size(image, how)
            if image.format == "EPS":  # Pillow would hand the file to Ghostscript, which runs it
                raise ImageError("PostScript is a program, not an image")
            if how.draft and edge:
                _draft(image, _DRAFT_MARGIN * edge)
            if image.format == "TIFF":
                silence_libtiff()
            return upright_rgb(image, how)
    except ZeroshotError:
        raise
    except UnidentifiedImageError as error:
        check_descriptors(error)  # a plugin that could not be imported
        raise ImageError("not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            "its header claims far more pixels than any image has (--max-pixels raises the limit)"
        ) from error
    except MemoryError as error:
        raise ImageError("too large for the memory at hand") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise (struct.error, ...)
        check_descriptors(error)
        raise ImageError(
            _one_line(f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})")
        ) from error


def _check_size(image: Image.Image, how: DecodeOptions) -> None:
    """Refuse an image without pixels, or with more than the limit or the available memory allow."""
    pixels = image.width * image.height
    if not pixels:
        raise ImageError("damaged: it has no pixels")
    if pixels > how.max_pixels:
        raise ImageError(
            f"{image.width} x {image.height} pixels is over the limit of {how.max_pixels:,} (--max-pixels raises it)"
        )
    if how.memory is not None and pixels > (limit := how.memory // _bytes_per_pixel(image)):
        raise ImageError(
            f"{image.width} x {image.height} pixels is over the limit of {limit:,} that the available memory"
            " sets for such an image (--max-pixels or fewer --workers raise it)"
        )


def upright_rgb(image: Image.Image, how: DecodeOptions) -> Image.Image:
    """Load an image that Pillow has opened, turn it upright and convert it to 8-bit RGB."""
    image.load()
    levels = grey_range(image)  # turning drops the format
    return to_rgb(_turn_upright(image) if how.exif else image, levels)


def _decode_preview(file: IO[bytes], how: DecodeOptions, edge: int) -> Image.Image:
    preview, turn = open_preview(file)
    upright = decode(preview, how, edge)
    return upright.transpose(turn) if turn is not None and how.exif else upright


def _draft(image: Image.Image, least: int) -> None:
    """Have a JPEG decoded at an eighth, a quarter or half of its size, if its short side keeps ``least`` pixels.

    The decoder then computes the mean colours of blocks instead of all their pixels. Only where that divides both
    sides: the last block would else be a part of one, and the cropped middle another.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    width, height = image.size
    for part in (8, 4, 2):
        if min(width, height) // part >= least and width % part == 0 and height % part == 0:
            image.draft(None, (width // part, height // part))
            return


def _bytes_per_pixel(image: Image.Image) -> int:
    """Return the memory that a pixel takes at most until the image is RGB: decoded, turned upright and converted.

    Measured as the peak of a process for each format and mode that Pillow writes. Pillow holds 4 bytes for a pixel
    of most modes, and an image that is turned or converted twice as much for a moment.
    """
    if image.format in ("JPEG", "MPO") and image.mode != "CMYK":
        return 12 if image.info.get("progressive") else 8  # a progressive one is held as coefficients first
    if image.format in _IN_ROWS:
        return 12
    return 16 if image.format == "TIFF" else MOST_BYTES  # a strip may be the whole; others hold copies of their own


def _turn_upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation.

    Pillow's own ``exif_transpose`` also writes the metadata anew, which fails where any of it is damaged.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # viewers show an image whose metadata cannot be read, too
        return image
    return image if turn is None else image.transpose(turn)


def _one_line(text: str) -> str:
    """Fold a message of several lines into one of bounded length."""
    folded = " ".join(text.split())
    return folded if len(folded) <= 200 else folded[:199] + "…"
