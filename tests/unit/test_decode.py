"""Opening images: every mode as a viewer shows it, and every bad file one line that says why."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from support.fixtures import SaveImage
from support.images import open_image
from zeroshot.errors import ImageError
from zeroshot.images.decode import DecodeOptions, decode, to_rgb

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as the module itself does outside pytest

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
AS_USUAL = DecodeOptions()


def reason(path: Path | str, how: DecodeOptions = AS_USUAL) -> str:
    """Return why a file cannot be opened; the reason is one short line."""
    with pytest.raises(ImageError) as caught:
        open_image(str(path), how)
    assert "\n" not in caught.value.message
    assert 0 < len(caught.value.message) <= 250
    return caught.value.message


def opened(path: Path, how: DecodeOptions = AS_USUAL) -> Image.Image:
    image = open_image(str(path), how)
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm", "big-endian.tif"])
def test_sixteen_bit_grey(tmp_path: Path, name: str) -> None:
    """White stays white, mid-grey mid-grey and black black, where Pillow alone makes nearly all of it white."""
    values = np.array([[65535, 32896, 0], [257, 514, 65278]], dtype=np.uint16)
    if name == "big-endian.tif":
        (tmp_path / name).write_bytes(_big_endian_tiff(values))
    else:
        Image.fromarray(values).save(tmp_path / name)
    assert np.asarray(opened(tmp_path / name))[..., 0].tolist() == [[255, 128, 0], [1, 2, 254]]


def _big_endian_tiff(values: np.ndarray) -> bytes:
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, values.size * 2))
    data = values.astype(">u2").tobytes()
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack(">2sHI", b"MM", 42, 8 + len(data)) + data + struct.pack(">H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535, 32896]], np.int32), [0, 255, 128]),
        (np.array([[0, 2**31 - 1, 2**30]], np.int32), [0, 255, 128]),
        (np.array([[-1, 0, -(2**31)]], np.int32), [255, 255, 0]),
        (np.array([[-300, 100, -100]], np.int32), [0, 255, 128]),
        (np.array([[3, 7, 5]], np.int32), [0, 255, 128]),
        (np.array([[0, 1, 0.5]], np.float32), [0, 255, 128]),
        (np.array([[0, 255, 128]], np.float32), [0, 255, 128]),
        (np.array([[1000, 3000, 2000]], np.float32), [0, 255, 128]),
        (np.array([[-1, 1, 0]], np.float32), [0, 255, 128]),
        (np.array([[np.nan, 1, np.inf]], np.float32), [0, 255, 0]),
    ],
)
def test_wide_grey(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    """Greys of 32 bits and floats are scaled by the range they use, negative values included."""
    Image.fromarray(values).save(tmp_path / "wide.tif")
    assert np.asarray(opened(tmp_path / "wide.tif"))[0, :, 0].tolist() == expected


def test_no_number_at_all_is_no_image(tmp_path: Path) -> None:
    """A float image without one finite value is a failure, not a black image with an answer."""
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageError, match="finite"):
        opened(tmp_path / "nan.tif")


def _tiff(values: np.ndarray, bits: int, sample_format: int, white_is: int = 1, **more: int) -> bytes:
    """Write a little-endian grey TIFF of one strip; ``more`` are further tags, such as ``t340=-5``."""
    height, width = values.shape
    data = values.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: white_is, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags |= {339: sample_format} | {int(name[1:]): value for name, value in more.items()}
    # Type 9 is a signed long, for negative numbers; 4 an unsigned one.
    entries = b"".join(
        struct.pack("<HHIi", tag, 9 if value < 0 else 4, 1, value) for tag, value in sorted(tags.items())
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_tiff(np.array([[-1000, 1000, 0]], "<i2"), 16, 2), [0, 255, 128]),
        (_tiff(np.array([[10, 14, 12]], "<i2"), 16, 2), [0, 255, 128]),
        (_tiff(np.array([[-100, 100, 0]], "<i2"), 16, 2, t340=-100, t341=300), [0, 128, 64]),
        (_tiff(np.array([[0, 100, 50]], "<i4"), 32, 2, t280=0, t281=200), [0, 128, 64]),
        (_tiff(np.array([[0, 2**32 - 1, 2**31]], "<u4"), 32, 1), [0, 255, 128]),
        (_tiff(np.array([[0, 40, 10]], "<u4"), 32, 1), [0, 255, 64]),
        (_tiff(np.array([[0, 65535]], "<u2"), 16, 1, white_is=0), [255, 0]),
        # Three values of 12 bits (0, 4095, 2048) and four bits that fill the last byte.
        (_tiff(np.array([[0x00, 0x0F, 0xFF, 0x80, 0x00]], "u1"), 12, 1, t256=3), [0, 255, 128]),
    ],
    ids=["signed", "small", "stated", "stated-32", "unsigned-32", "small-32", "white-is-zero", "twelve-bits"],
)
def test_integer_tiffs(tmp_path: Path, data: bytes, expected: list[int]) -> None:
    """SampleFormat and BitsPerSample say what an integer means; wide ones are stretched to what they state or use."""
    (tmp_path / "a.tif").write_bytes(data)
    assert np.asarray(opened(tmp_path / "a.tif"))[0, :, 0].tolist() == expected


def test_wide_grey_is_not_turned_round_by_exif(tmp_path: Path) -> None:
    """An orientation that is applied leaves the range that the file states in force."""
    (tmp_path / "a.tif").write_bytes(_tiff(np.array([[0, 100]], "<i2"), 16, 2, t274=3, t340=-100, t341=300))
    assert sorted(np.asarray(opened(tmp_path / "a.tif"))[..., 0].ravel().tolist()) == [64, 128]


def test_transparent_value_of_a_sixteen_bit_png(tmp_path: Path) -> None:
    """The one grey that a 16-bit PNG declares transparent becomes white, and no other that looks like it."""
    Image.fromarray(np.array([[5, 6, 300]], np.uint16)).save(tmp_path / "key.png", transparency=5)
    assert np.asarray(opened(tmp_path / "key.png"))[0, :, 0].tolist() == [255, 0, 1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "PA", "RGBa"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    """A black logo on transparency stays black on white, in every mode that can be transparent."""
    logo = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    logo.putpixel((0, 0), (0, 0, 0, 255))
    steps = {"La": ("LA", "La"), "PA": ("P", "PA")}.get(mode, (mode,))
    for step in steps:
        logo = logo.convert(step)
    if mode == "PA":
        logo.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
    rgb = to_rgb(logo)
    assert (rgb.getpixel((0, 0)), rgb.getpixel((1, 0))) == (BLACK, WHITE)


def test_half_transparent() -> None:
    """Half-transparent red over white is pink."""
    assert to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 128))).getpixel((0, 0)) == (255, 127, 127)


def test_palettes(tmp_path: Path) -> None:
    """Palettes become their colours, and a transparent index becomes white."""
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "clear.gif", transparency=0)
    assert opened(tmp_path / "palette.png").getpixel((0, 0)) == BLACK
    for name in ("palette.png", "clear.png", "clear.gif"):
        assert opened(tmp_path / name).getpixel((1, 0)) == (10, 200, 30)
    assert opened(tmp_path / "clear.png").getpixel((0, 0)) == WHITE
    assert opened(tmp_path / "clear.gif").getpixel((0, 0)) == WHITE


def test_transparent_colour_of_an_rgb_png(tmp_path: Path) -> None:
    """The one colour that an RGB PNG declares transparent becomes white."""
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    image.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert np.asarray(opened(tmp_path / "key.png")).tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_one_bit(tmp_path: Path) -> None:
    """The two values of a 1-bit image are black and white."""
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "bit.png")
    assert np.asarray(opened(tmp_path / "bit.png"))[..., 0].tolist() == [[0, 255]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    """Red ink is red, with Adobe's marker and without: JPEG stores inks inverted, whoever wrote it."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "adobe.jpg", quality=100)
    data = (tmp_path / "adobe.jpg").read_bytes()
    assert data[2:4] == b"\xff\xee"  # Adobe's marker comes first
    (tmp_path / "plain.jpg").write_bytes(data[:2] + data[4 + int.from_bytes(data[4:6], "big") :])
    for name in ("adobe.jpg", "plain.jpg"):
        assert np.abs(np.subtract(opened(tmp_path / name).getpixel((8, 8)), (255, 0, 0))).max() <= 3


def test_ycbcr(tmp_path: Path) -> None:
    """TIFF in YCbCr comes out in its own colours."""
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("YCbCr").save(tmp_path / "y.tif")
    assert np.abs(np.subtract(opened(tmp_path / "y.tif").getpixel((8, 8)), (200, 40, 90))).max() <= 3


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png", "pages.tif"])
def test_first_frame(tmp_path: Path, name: str) -> None:
    """An animated image is its first frame."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert opened(tmp_path / name).getpixel((4, 4)) == (250, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """Each of the eight orientations is turned upright, and left as stored where that is asked for."""
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).convert("RGB")
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transpositions that undo what a viewer does
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(opened(tmp_path / "turned.png"), upright)
    assert np.array_equal(opened(tmp_path / "turned.png", DecodeOptions(exif=False)), stored)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1"]
)
def test_damaged_exif(images: SaveImage, exif: bytes) -> None:
    """Metadata that cannot be read does not lose an image that can."""
    assert opened(images("odd.jpg", exif=exif)).size == (16, 12)


def test_tiff_orientation(tmp_path: Path) -> None:
    """TIFF's own orientation is turned once, and always: Pillow does it while it decodes, in any protocol."""
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 255, 255))
    image.save(tmp_path / "turned.tif", tiffinfo={0x0112: 6})
    for exif in (True, False):
        turned = opened(tmp_path / "turned.tif", DecodeOptions(exif=exif))
        assert (turned.size, turned.getpixel((1, 0))) == ((2, 3), WHITE)


def test_unknown_orientation(images: SaveImage) -> None:
    """An orientation that does not exist leaves the image as it is."""
    exif = Image.Exif()
    exif[0x0112] = 99
    assert opened(images("odd.jpg", exif=exif)).size == (16, 12)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
def test_truncated(tmp_path: Path, name: str) -> None:
    """Half an image is not the image: wherever it is cut, it fails."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.001, 0.05, 0.3, 0.7, 0.9):
        (tmp_path / name).write_bytes(whole[: max(1, int(len(whole) * share))])
        reason(tmp_path / name)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """A damaged file is an image or a `ImageError`, whatever Pillow's decoder makes of it."""
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "ICO", "PPM", "TGA", "PCX", "SGI", "DDS", "QOI"):
        whole = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(whole, form)
        for _ in range(12):
            damaged = bytearray(whole.getvalue())
            for position in random.integers(0, min(len(damaged), 100), 4):
                damaged[position] = random.integers(0, 256)
            (tmp_path / "x").write_bytes(damaged)
            try:
                opened(tmp_path / "x", DecodeOptions(max_pixels=1_000_000))
            except ImageError as error:
                assert error.message


def test_not_images(tmp_path: Path) -> None:
    """Empty files, text, folders and what does not exist each say what they are."""
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("a shopping list")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    assert "0 bytes" in reason(tmp_path / "empty.jpg")
    assert "not an image" in reason(tmp_path / "text.jpg")
    assert "folder" in reason(tmp_path / "folder.jpg")
    assert "symbolic links" in reason(tmp_path / "loop.jpg")
    assert "no such file" in reason(tmp_path / "dangling.jpg")
    assert "no such file" in reason(tmp_path / "nothing.jpg")
    assert "--from0" in reason("a\0b.jpg")
    assert "too long" in reason(tmp_path / ("x" * 300)).lower()
    reason("\ud800.jpg")  # a surrogate that stands for no byte


def test_postscript(tmp_path: Path) -> None:
    """PostScript is refused before Pillow hands it to an interpreter, whatever the file is called."""
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "PostScript" in reason(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifo(tmp_path: Path) -> None:
    """A FIFO without a writer is refused at once; opening it plainly would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "not a regular file"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")
def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is no image either; the kernel's words for it speak of a device."""
    monkeypatch.chdir(tmp_path)  # its path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert reason("s.jpg") == "not a regular file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_device() -> None:
    """A device that never ends is refused."""
    assert reason("/dev/zero") == "not a regular file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable(images: SaveImage) -> None:
    """A file without permission says so."""
    path = images("secret.png")
    path.chmod(0)
    assert "permission" in reason(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
def test_no_descriptor_leaks(tmp_path: Path, images: SaveImage) -> None:
    """However a file fails, it is closed."""
    (tmp_path / "text.jpg").write_text("text")
    paths = [tmp_path, tmp_path / "text.jpg", tmp_path / "gone.jpg", images("good.png")]

    def attempt() -> int:
        for path in paths:
            try:
                open_image(str(path), DecodeOptions())
            except ImageError:
                continue
        return len(list(Path("/proc/self/fd").iterdir()))

    assert attempt() == attempt()


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


def test_bombs(tmp_path: Path) -> None:
    """A small file that claims billions of pixels, or more than are allowed, is refused before it is decoded."""
    (tmp_path / "bomb.png").write_bytes(_png_header(50_000, 50_000))
    assert "--max-pixels" in reason(tmp_path / "bomb.png")
    (tmp_path / "small.png").write_bytes(_png_header(11, 10))
    assert "11 x 10" in reason(tmp_path / "small.png", DecodeOptions(max_pixels=109))


def test_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A higher limit moves Pillow's own: the image is then only as damaged as it is."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    assert "--max-pixels" in reason(tmp_path / "a.png", DecodeOptions(max_pixels=2000))
    assert opened(tmp_path / "a.png", DecodeOptions(max_pixels=10_000)).size == (100, 100)


def test_no_pixels(tmp_path: Path) -> None:
    """An image of no size is damaged, and does not divide by zero further on."""
    (tmp_path / "none.gif").write_bytes(b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\0;")
    (tmp_path / "none.png").write_bytes(_png_header(0, 5))
    reason(tmp_path / "none.gif")
    reason(tmp_path / "none.png")


def test_odd_names(tmp_path: Path) -> None:
    """Names with newlines, quotes, brackets and bytes that are no text are opened like any other."""
    for name in (b"a\nb.png", b"'\".png", b"[red]x[bold].png", b"\xff\xfe.png", b" .png"):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        Image.new("RGB", (2, 2)).save(path)
        assert open_image(path, DecodeOptions()).size == (2, 2)


@pytest.mark.parametrize(
    ("size", "ending", "draft", "expected"),
    [
        ((1600, 1200), "jpg", True, (200, 150)),  # an eighth: 150 is at least twice 64
        ((1604, 1200), "jpg", True, (401, 300)),  # 8 does not divide 1604
        ((640, 480), "jpg", True, (320, 240)),  # a quarter would leave 120
        ((641, 480), "jpg", True, (641, 480)),
        ((1600, 1200), "png", True, (1600, 1200)),
        ((1600, 1200), "jpg", False, (1600, 1200)),
    ],
)
def test_drafts(images: SaveImage, size: tuple[int, int], ending: str, draft: bool, expected: tuple[int, int]) -> None:
    """A JPEG is decoded at the smallest size that leaves twice the model's side, where it divides both sides."""
    with images(f"large.{ending}", "red", size).open("rb") as file:
        assert decode(file, DecodeOptions(draft=draft), 64).size == expected


def test_a_draft_is_the_image(tmp_path: Path) -> None:
    """Resized to the model's size, a draft is within a few grey levels of the whole, upright as it."""
    smooth = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(smooth).resize((1200, 800), Image.Resampling.BICUBIC).save(path, exif=exif, quality=95)
    found = []
    for draft in (False, True):
        with path.open("rb") as file:
            found.append(np.asarray(decode(file, DecodeOptions(draft=draft), 64).resize((64, 96))).astype(int))
    assert 0 < np.abs(found[0] - found[1]).max() < 12


@pytest.mark.skipif(not list((Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*")), reason="no wheel")
def test_libtiff_prints_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A damaged TIFF is one failure or one image, without dozens of lines on stderr."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)).convert("1")
    noise.save(tmp_path / "a.tif", compression="group4")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for index in range(500, len(data) - 3000, 97):
        data[index] ^= 0xFF
    (tmp_path / "a.tif").write_bytes(data)
    with suppress(ImageError):
        open_image(str(tmp_path / "a.tif"), DecodeOptions())
    assert capfd.readouterr().err == ""
