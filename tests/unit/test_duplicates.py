"""Copies and near-duplicates are found, other images are not."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.camera import make_dng
from zeroshot.duplicates import Duplicates, find_duplicates
from zeroshot.features.pipeline import Pipeline


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """An image with large and small forms, of its own for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def found_in(*paths: Path, **options: object) -> Duplicates:
    return find_duplicates(map(str, paths), Pipeline(workers=2), **options)  # type: ignore[arg-type]


def names(found: Duplicates) -> list[list[str]]:
    return [[Path(copy.path).name for copy in (group.best, *group.others)] for group in found.groups]


def test_sizes_and_formats_of_one_image_are_one_group_best_first(tmp_path: Path) -> None:
    """The largest comes first, whatever the order of the inputs; what differs is in no group."""
    scene(1).resize((160, 120)).save(tmp_path / "small.jpg", quality=60)
    scene(1).save(tmp_path / "large.png")
    scene(1).save(tmp_path / "large.webp", quality=70)
    scene(2).save(tmp_path / "other.png")
    found = found_in(*(tmp_path / name for name in ("small.jpg", "large.webp", "other.png", "large.png")))
    assert names(found) == [["large.png", "large.webp", "small.jpg"]]
    best, *others = (found.groups[0].best, *found.groups[0].others)
    assert (best.width, best.height, best.size) == (320, 240, (tmp_path / "large.png").stat().st_size)
    assert best.similarity == 1.0
    assert all(0.985 <= copy.similarity <= 1.0 and not copy.is_exact for copy in others)
    assert found.searched == 4


def test_the_plainest_name_of_equal_copies_is_best(tmp_path: Path) -> None:
    """`IMG_1 (1).png` is the copy and `IMG_1.png` the original, also in an archive, whose members have a size."""
    for name in ("IMG_1 (1).png", "IMG_1.png"):
        scene(1).save(tmp_path / name)
    assert names(found_in(tmp_path / "IMG_1 (1).png", tmp_path / "IMG_1.png")) == [["IMG_1.png", "IMG_1 (1).png"]]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "IMG_1.png", "a.png")
    (group,) = find_duplicates([f"{tmp_path / 'all.zip'}::a.png", str(tmp_path / "IMG_1.png")], Pipeline()).groups
    assert {copy.size for copy in (group.best, *group.others)} == {(tmp_path / "IMG_1.png").stat().st_size}


def test_exact_asks_for_the_same_content(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    scene(1).save(tmp_path / "c.jpg")
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.jpg")]
    assert names(found_in(*paths, exact=True)) == [["a.png", "b.png"]]
    assert names(found_in(*paths)) == [["a.png", "b.png", "c.jpg"]]
    assert [copy.is_exact for copy in found_in(*paths).groups[0].others] == [True, False]


def test_copies_of_a_smaller_one_go_where_it_goes(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "large.png")
    scene(1).resize((80, 60)).save(tmp_path / "small.png")
    (tmp_path / "small copy.png").write_bytes((tmp_path / "small.png").read_bytes())
    found = found_in(*(tmp_path / name for name in ("small.png", "small copy.png", "large.png")))
    assert names(found) == [["large.png", "small.png", "small copy.png"]]
    small, copy = found.groups[0].others
    assert small.similarity == copy.similarity < 1.0
    assert not copy.is_exact  # of the best one


def test_no_chain_joins_what_is_not_alike(tmp_path: Path) -> None:
    """Each image is compared with a group's best copy: the two ends of a slow change are not duplicates."""
    first, last = np.asarray(scene(1), float), np.asarray(scene(2), float)
    paths = []
    for step in range(30):
        mixed = first + (last - first) * step / 29
        paths.append(tmp_path / f"{step:02d}.png")
        Image.fromarray(mixed.astype(np.uint8)).resize((320 - step, 240)).save(paths[-1])
    found = found_in(*paths)
    assert len(found.groups) > 1
    for group in found.groups:
        assert all(copy.similarity >= 0.985 for copy in group.others)


def test_a_file_is_no_duplicate_of_itself(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "linked.png")
    (tmp_path / "symbolic.png").symlink_to("a.png")
    paths = [tmp_path / name for name in ("a.png", "a.png", "linked.png", "symbolic.png")]
    assert found_in(*paths).groups == ()


def test_flat_images_are_compared_by_content_alone(tmp_path: Path) -> None:
    """Blank pages and black frames look alike, and may be different things."""
    for name, value in (("white.png", 255), ("grey.png", 250), ("again.png", 255)):
        Image.new("L", (64, 64), value).save(tmp_path / name)
    assert names(found_in(*(tmp_path / n for n in ("white.png", "grey.png", "again.png")))) == [
        ["white.png", "again.png"]
    ]


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png", "mpo"])
def test_a_shared_first_page_is_no_likeness(tmp_path: Path, ending: str) -> None:
    """Scans with one cover, an animation beside a still of it, two views: only copies of such files are found."""
    for name, seed in ((f"a.{ending}", 2), (f"b.{ending}", 3)):
        scene(1).save(tmp_path / name, save_all=True, append_images=[scene(seed), scene(seed + 2)])
    scene(1).save(tmp_path / "still.png")
    (tmp_path / f"again.{ending}").write_bytes((tmp_path / f"b.{ending}").read_bytes())
    found = found_in(*(tmp_path / name for name in (f"a.{ending}", f"b.{ending}", "still.png", f"again.{ending}")))
    assert names(found) == [[f"b.{ending}", f"again.{ending}"]]
    assert (found.searched, found.content_only) == (4, 3)


def test_a_preview_within_a_jpeg_is_no_second_page(tmp_path: Path) -> None:
    """Cameras and phones store a preview or a gain map behind the image (MPO): the image is what is compared."""
    scene(1).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[scene(1, (160, 120))])
    scene(1, (160, 120)).save(tmp_path / "small.png")
    found = found_in(tmp_path / "small.png", tmp_path / "a.jpg")
    assert names(found) == [["a.jpg", "small.png"]]
    assert found.content_only == 0


def test_a_raw_file_is_no_small_copy_of_its_jpeg(tmp_path: Path) -> None:
    """A RAW file and the camera's JPEG are a pair, however small the preview; copies of the RAW file are copies."""
    pytest.importorskip("rawpy")
    scene(1, (1200, 900)).save(tmp_path / "IMG_1.jpg", quality=95)
    scene(1, (1200, 900)).save(tmp_path / "IMG_1.pef", "TIFF")  # a RAW format that its ending tells
    (tmp_path / "IMG_1.dng").write_bytes(make_dng(scene(1, (160, 120))))
    (tmp_path / "backup.dng").write_bytes((tmp_path / "IMG_1.dng").read_bytes())
    found = found_in(*(tmp_path / name for name in ("IMG_1.jpg", "IMG_1.dng", "backup.dng", "IMG_1.pef")))
    assert names(found) == [["IMG_1.dng", "backup.dng"]]
    assert (found.groups[0].best.width, found.groups[0].best.height) == (64, 64)  # the sensor's
    assert found.content_only == 3


def test_colour_tells_images_of_one_form_apart(tmp_path: Path) -> None:
    """A red shirt and a green one correlate in grey."""
    form = np.asarray(scene(3).convert("L"), float)[..., None] / 255
    Image.fromarray((form * [200, 60, 60]).astype(np.uint8)).save(tmp_path / "red.png")
    Image.fromarray((form * [60, 160, 60]).astype(np.uint8)).save(tmp_path / "green.png")
    assert found_in(tmp_path / "red.png", tmp_path / "green.png").groups == ()


def test_a_small_change_in_one_place_tells_images_apart(tmp_path: Path) -> None:
    """A sign with a word under it, a clock with its hand elsewhere: they correlate as a whole, and are two images."""
    plain = scene(1)
    plain.save(tmp_path / "plain.png")
    marked = plain.copy()
    dark = marked.convert("L").getpixel((157, 115)) < 128
    marked.paste((255, 255, 255) if dark else (0, 0, 0), (150, 110, 164, 124))
    marked.save(tmp_path / "marked.png")
    assert found_in(tmp_path / "plain.png", tmp_path / "marked.png").groups == ()


def test_a_converted_image_is_found_whatever_its_sides(tmp_path: Path) -> None:
    """A JPEG is decoded at a part of its size, a PNG is not; their thumbnails must agree in fine detail too."""
    y, x = np.mgrid[:300, :172]
    lines = np.where((x + y // 3) % 24 < 5, 20, 235) * 0.5 + np.asarray(scene(4, (172, 300)).convert("L")) * 0.25
    image = Image.fromarray(lines.astype(np.uint8)).convert("RGB")
    image.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as stored:
        stored.save(tmp_path / "b.png")
    (group,) = found_in(tmp_path / "a.jpg", tmp_path / "b.png").groups
    assert group.others[0].similarity >= 0.995


def test_pages_of_text_in_one_layout_are_not_alike(tmp_path: Path) -> None:
    """Rows of words of random length, as on scanned pages: grey blocks of the same shape."""
    paths = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        page = np.full((1100, 850), 255, np.uint8)
        for top in range(80, 1020, 30):
            left = 80
            while left < 720:
                width = int(rng.integers(30, 60))
                page[top : top + 18, left : left + width] = 0
                left += width + 8
        paths.append(tmp_path / f"{seed:02}.png")
        Image.fromarray(page).save(paths[-1])
    assert found_in(*paths).groups == ()


def test_an_image_that_cannot_be_read_is_one_failure(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:90])
    found = found_in(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png")
    assert [Path(failure.path).name for failure in found.failures] == ["b.png", "gone.png"]
    assert found.searched == 1


@pytest.mark.parametrize("count", [3, 520, 1030])
def test_blocks_make_no_difference(tmp_path: Path, count: int) -> None:
    """A duplicate is found wherever its best copy stands, within a block of comparisons or far before it."""
    from zeroshot.duplicates import _lead_by_look

    rng = np.random.default_rng(0)
    thumbnails = [rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(count)]
    thumbnails += [thumbnails[0], thumbnails[count - 1]]
    found = _lead_by_look(thumbnails, 0.985)
    assert {i: leader for i, (leader, _) in found.items()} == {count: 0, count + 1: count - 1}
