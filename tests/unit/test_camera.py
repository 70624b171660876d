"""What phones and cameras write: read with the extra, named without it, never passed over in silence."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from support.camera import make_dng
from support.commands import run
from support.fixtures import SaveImage
from support.images import open_image
from zeroshot.errors import ImageError, InputError
from zeroshot.evaluation.labelled_folders import load_folder
from zeroshot.images import camera_formats, misnamed_images, paths
from zeroshot.images.decode import DecodeOptions
from zeroshot.images.rgb import is_tiff

AS_USUAL = DecodeOptions()
RED, GREEN = (200, 30, 30), (30, 160, 30)


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package of the extra is installed."""
    monkeypatch.setattr(camera_formats, "_has", lambda package: False)
    camera_formats.register_heif.cache_clear()
    for package in ("pillow_heif", "rawpy"):
        monkeypatch.setitem(sys.modules, package, None)


def phone_folder(folder: Path, images: SaveImage) -> Path:
    """A folder as a phone and a camera leave it: one JPEG, and four files of other kinds."""
    images(f"{folder.name}/a.jpg")
    for name in ("IMG_1.HEIC", "IMG_2.heic", "c.CR2", "d.mov", "notes.txt"):
        (folder / name).write_bytes(b"x")
    return folder


def near(path: Path, at: tuple[int, int], colour: tuple[int, int, int], how: DecodeOptions = AS_USUAL) -> bool:
    return bool(np.abs(np.subtract(open_image(str(path), how).getpixel(at), colour)).max() < 12)


def test_heic(tmp_path: Path) -> None:
    """A HEIC is its pixels, found below a folder by its ending."""
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), RED)).save(tmp_path / "IMG_1.HEIC")
    assert near(tmp_path / "IMG_1.HEIC", (20, 20), RED)
    assert list(paths.walk(str(tmp_path))) == [str(tmp_path / "IMG_1.HEIC")]


def test_avif(tmp_path: Path) -> None:
    """An AVIF needs no extra."""
    Image.new("RGB", (64, 48), RED).save(tmp_path / "a.avif")
    assert near(tmp_path / "a.avif", (20, 20), RED)


@pytest.mark.parametrize(("exif", "size"), [(True, (96, 128)), (False, (128, 96))])
def test_raw_is_its_preview(tmp_path: Path, exif: bool, size: tuple[int, int]) -> None:
    """A RAW file is the preview that the camera stored, turned as the file says unless that is refused."""
    preview = Image.new("RGB", (128, 96), RED)
    preview.paste(GREEN, (0, 0, 64, 96))
    (tmp_path / "a.dng").write_bytes(make_dng(preview, orientation=6))
    how = DecodeOptions(exif=exif)
    assert open_image(str(tmp_path / "a.dng"), how).size == size
    assert near(tmp_path / "a.dng", (10, 10), GREEN, how)
    assert near(tmp_path / "a.dng", (80, 120) if exif else (120, 80), RED, how)
    assert list(paths.walk(str(tmp_path))) == [str(tmp_path / "a.dng")]


def test_limits_hold_for_previews(tmp_path: Path) -> None:
    """A preview with more pixels than are allowed is refused as any image is, and half a RAW file is damaged."""
    whole = make_dng(Image.new("RGB", (128, 96), RED))
    (tmp_path / "a.dng").write_bytes(whole)
    with pytest.raises(ImageError, match="128 x 96"):
        open_image(str(tmp_path / "a.dng"), DecodeOptions(max_pixels=100))
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(200))
    with pytest.raises(ImageError):
        open_image(str(tmp_path / "a.cr2"), DecodeOptions())


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra(tmp_path: Path) -> None:
    """A file that is named itself says which extra reads it, also a RAW file whose thumbnail Pillow would take."""
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    for name, data in (("a.heic", heic), ("b.dng", make_dng(Image.new("RGB", (64, 48))))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=r"pip install 'pillow-heif>=1' 'rawpy>=0\.24'"):
            open_image(str(tmp_path / name), DecodeOptions())


@pytest.mark.usefixtures("without_extra", "fake_model")
def test_passed_over_files_are_counted_once(tmp_path: Path, images: SaveImage) -> None:
    """A folder's images and videos of other kinds are counted by ending, in one line that names the extra."""
    folder = phone_folder(tmp_path / "phone", images)
    result = run("classify", folder, "--labels", "red,blue", "-f", "jsonl")
    kinds = "2 .heic, 1 .cr2, 1 .mov (pip install 'pillow-heif>=1' 'rawpy>=0.24' reads .cr2, .heic)"
    expected = f"zeroshot: 4 files were passed over: {kinds}"
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert [line for line in result.stderr.splitlines() if "passed over" in line] == [expected]
    (folder / "a.jpg").unlink()
    with pytest.raises(InputError, match="4 files were passed over"):
        paths.check_inputs([str(folder)])


@pytest.mark.usefixtures("without_extra")
def test_passed_over_in_labelled_folders(tmp_path: Path, images: SaveImage) -> None:
    """A labelled folder notes them too."""
    phone_folder(tmp_path / "set" / "cat", lambda name, *_: images(f"set/{name}"))
    assert any("4 files were passed over" in note for note in load_folder(str(tmp_path / "set")).notes)


def test_no_image_of_a_folder_goes_unnamed(tmp_path: Path) -> None:
    """What cameras and programs call their images is found or counted, whatever its ending."""
    found = ("apng", "avifs", "heics", "insp", "jps", "mpo")
    passed = ("ai", "cur", "dds", "icns", "mng", "pfm")
    for ending in (*found, *passed):
        (tmp_path / f"a.{ending}").touch()
    skipped: Counter[str] = Counter()
    assert [name.rpartition(".")[2] for name in paths.walk(str(tmp_path), skipped)] == list(found)
    assert sorted(skipped) == [f".{ending}" for ending in passed]


def test_with_the_extra_only_videos_are_passed_over(tmp_path: Path) -> None:
    """What the extra reads is not passed over, and one file is not called files."""
    (tmp_path / "d.MOV").touch()
    (tmp_path / "a.heic").touch()
    skipped: Counter[str] = Counter()
    assert list(paths.walk(str(tmp_path), skipped)) == [str(tmp_path / "a.heic")]
    assert camera_formats.describe_passed_over(skipped) == "1 file was passed over: 1 .mov"


@pytest.mark.usefixtures("fake_model")
def test_closed_archives_and_images_without_an_ending_are_counted(tmp_path: Path, images: SaveImage) -> None:
    """A folder's archives, and what only its bytes show to be an image, are not passed over in silence."""
    images("in/a.png", (255, 0, 0))
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "image")
    images("in/b.png", (255, 0, 0))
    (tmp_path / "in" / "notes").write_text("text")
    os.mkfifo(tmp_path / "in" / "pipe")
    with zipfile.ZipFile(tmp_path / "in" / "c.ZIP", "w") as archive:
        archive.write(tmp_path / "in" / "b.png", "d.png")
    result = run("classify", tmp_path / "in", "--labels", "red,blue", "-f", "jsonl")
    expected = (
        "zeroshot: 2 files were passed over: 1 .zip, 1 with the content but not the name of an image "
        "(--archives opens .zip; rename them to end as images do, or name each file itself)"
    )
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert [line for line in result.stderr.splitlines() if "passed over" in line] == [expected]
    result = run("classify", tmp_path / "in", "--archives", "--labels", "red,blue", "-f", "jsonl")
    assert len(result.stdout.splitlines()) == 2
    assert "1 file was passed over: 1 with the content but not" in result.stderr


ODD_NAMES = ("bee.jpg?w=200", "bee.jpg_large", "bee.jpg.bak", "bee.dat", "v1.2_photo", "bee")


@pytest.mark.usefixtures("fake_model")
def test_images_under_other_names_are_counted_and_open_when_named(tmp_path: Path, images: SaveImage) -> None:
    """What downloads and backups call an image is counted; sidecars, videos and text are not; naming one opens it."""
    content = images("in/a.jpg", "red").read_bytes()
    for name in ODD_NAMES:
        (tmp_path / "in" / name).write_bytes(content)
    (tmp_path / "in/x.txt").write_bytes(content)  # known endings are not looked into
    (tmp_path / "in/notes.2_text").write_text("text")
    (tmp_path / "in/film.mp4_large").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    result = run("classify", tmp_path / "in", "--labels", "red,blue", "-f", "jsonl")
    assert "6 files were passed over: 6 with the content but not the name of an image (rename them" in result.stderr
    named = run("classify", *(tmp_path / "in" / name for name in ODD_NAMES), "--labels", "red,blue", "-f", "jsonl")
    assert (named.exit_code, named.stdout.count('"label": "red", "prob')) == (0, 12)


def test_few_files_of_an_unknown_ending_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder full of files of one kind, or of as many kinds, costs no more than some looks."""
    for number in range(40):
        (tmp_path / f"{number}.sidecar").write_text("x")
        (tmp_path / f"{number}.ending{number}").write_text("x")
    looks: list[bytes] = []
    monkeypatch.setattr(misnamed_images, "looks_like_image", lambda head: bool(looks.append(head)))
    monkeypatch.setattr(misnamed_images, "_MOST_ENDINGS", 10)
    assert list(paths.walk(str(tmp_path), Counter())) == []
    assert len(looks) <= 16 + 11


@pytest.mark.usefixtures("fake_model")
def test_archives_that_nothing_opens_are_named(tmp_path: Path, images: SaveImage) -> None:
    """Compressed tars, 7z and rar are counted, with --archives and without, and so is what lies in an archive."""
    image = images("in/a.png", "red").read_bytes()
    folder = tmp_path / "in"
    for name in ("b.tar.gz", "c.tgz", "d.tar.bz2", "e.tar.xz", "f.7z", "g.rar"):
        (folder / name).write_bytes(b"x")
    with tarfile.open(folder / "h.tar", "w") as archive:
        for name in ("i.png", "inner.tar", "inner.tar.gz", "README"):
            member = tarfile.TarInfo(name)
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
        special = tarfile.TarInfo("pipe.png")
        special.type = tarfile.FIFOTYPE
        archive.addfile(special)
    counted = "1 .tar.gz, 1 .tgz, 1 .tar.bz2, 1 .tar.xz, 1 .7z, 1 .rar"
    result = run("classify", folder, "--labels", "red,blue", "-f", "jsonl")
    assert f"7 files were passed over: {counted}, 1 .tar (--archives opens .tar; unpack" in result.stderr
    result = run("classify", folder, "--labels", "red,blue", "-f", "jsonl", "--archives")
    assert result.exit_code == 3  # the pipe
    assert "9 files were passed over: 2 .tar.gz" in result.stderr
    assert "1 .tar inside an archive" in result.stderr and "1 without an ending" in result.stderr
    assert "--archives opens" not in result.stderr
    assert "h.tar::pipe.png: is a device or a pipe, not a file" in result.stderr


def test_a_damaged_raw_file_is_named_in_words(tmp_path: Path) -> None:
    """LibRaw's reason is text, not the bytes that it comes as."""
    (tmp_path / "c.CR2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(500))
    with pytest.raises(ImageError) as refused:
        open_image(str(tmp_path / "c.CR2"), AS_USUAL)
    assert str(refused.value).startswith("damaged: Unsupported file format")


def test_a_plugin_that_is_being_imported_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports what opens TIFFs there is no class yet, and no image is one."""
    image = Image.new("I;16", (2, 2))
    monkeypatch.setitem(sys.modules, "PIL.TiffImagePlugin", ModuleType("PIL.TiffImagePlugin"))
    assert not is_tiff(image)
    monkeypatch.delitem(sys.modules, "PIL.TiffImagePlugin")
    assert not is_tiff(image)
