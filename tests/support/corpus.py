"""Damaged images: every format that Pillow writes, cut, flipped, with headers that lie and of extreme shapes."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from support.fault_runs import Tally
from support.images import open_image
from zeroshot.errors import ImageError
from zeroshot.images.decode import DecodeOptions

MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F")
SHAPES = ((1, 1), (1, 10_000), (10_000, 1))


def write_all_formats(modes: Sequence[str] = MODES) -> Iterator[tuple[str, bytes]]:
    """Yield a small image in every format and mode that Pillow writes here, as ``FORMAT-MODE`` and its bytes."""
    Image.init()
    noise = Image.effect_noise((23, 17), 90)
    for form in sorted(Image.SAVE):
        for mode in modes:
            image = Image.new("I;16", (23, 17), 40_000) if mode == "I;16" else noise.convert(mode)
            buffer = io.BytesIO()
            try:
                image.save(buffer, form)
            except Exception:  # this format has no such mode, or its encoder is not built in
                continue
            yield f"{form}-{mode}", buffer.getvalue()


def damage(content: bytes, generator: random.Random, flips: int) -> Iterator[bytes]:
    """Yield a file cut at every tenth, then with bits flipped, most of them in the header."""
    for tenth in range(10):
        yield content[: len(content) * tenth // 10]
    for _ in range(flips):
        broken = bytearray(content)
        for _ in range(generator.randint(1, 8)):
            end = min(len(broken), 64) if generator.random() < 0.6 else len(broken)
            broken[generator.randrange(end)] ^= 1 << generator.randrange(8)
        yield bytes(broken)


def lying_headers() -> Iterator[bytes]:
    """Yield small files whose headers claim sizes that no memory holds, or none at all."""
    for width, height in ((2**31 - 1, 2**31 - 1), (100_000, 100_000), (0, 5), (2**32 - 1, 1)):
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
        )
        yield b"\x89PNG\r\n\x1a\n" + chunks
        yield f"P6 {width} {height} 255\n".encode() + bytes(100)
        bitmap = (40, width & 0x7FFFFFFF, height & 0x7FFFFFFF, 1, 24, 0, 100, 0, 0, 0, 0)
        yield b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + struct.pack("<IiiHHIIiiII", *bitmap) + bytes(100)
        yield b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + bytes(100)
        yield b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + bytes(100)


def check(path: Path, content: bytes, name: str, tally: Tally) -> None:
    """Open one file: it gives an RGB image of its size, or one line that says why not."""
    path.write_bytes(content)
    tally.tries += 1
    try:
        image = open_image(str(path), DecodeOptions(max_pixels=2_000_000))
    except ImageError as error:
        tally.counts["refused"] += 1
        tally.expect(bool(error.message) and "\n" not in error.message, f"{name}: message {error.message!r}")
    except BaseException as error:
        tally.counts["crashes"] += 1
        tally.expect(False, f"{name}: {type(error).__name__}: {error}; {content[:400].hex()}")
    else:
        tally.counts["opened"] += 1
        tally.expect(image.mode == "RGB" and min(image.size) > 0, f"{name}: {image}")


def open_all(base: Path, generator: random.Random, tally: Tally, flips: int = 60, modes: Sequence[str] = MODES) -> None:
    """Open the whole corpus once."""
    path = base / "image"
    for name, content in write_all_formats(modes):
        tally.counts["formats and modes"] += 1
        check(path, content, name, tally)
        for broken in damage(content, generator, flips):
            check(path, broken, f"{name}, damaged", tally)
    for content in lying_headers():
        check(path, content, "lying header", tally)
    for shape in SHAPES:
        for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
            buffer = io.BytesIO()
            Image.new("RGB", shape, "red").save(buffer, form)
            check(path, buffer.getvalue(), f"{form} {shape}", tally)
