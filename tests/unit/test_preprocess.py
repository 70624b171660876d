"""Fitting images to a model: equal to open_clip's own inference transform, to the last bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from zeroshot.encoder import Preprocessing
from zeroshot.enums import Interpolation, ResizeMode
from zeroshot.images import preprocess

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(224, 224), (32, 32), (7, 7), (48, 32), (20, 75), (1, 5)]
# (width, height): the last ones are rounding traps, where the sides divide to just under or over a half.
SHAPES = [(1, 1), (1, 300), (301, 7), (7, 301), (224, 224), (224, 225), (225, 224), (640, 427), (333, 500)]
SHAPES += [(3, 2), (2, 3), (31, 33), (1000, 37), (449, 448), (97, 89), (50, 57), (57, 50)]


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("interpolation", Interpolation)
@pytest.mark.parametrize("mode", ResizeMode)
@pytest.mark.parametrize("size", SIZES)
def test_equals_open_clip(open_clip: ModuleType, size: tuple[int, int], mode: str, interpolation: str) -> None:
    """An image of any shape becomes the very numbers that open_clip's transform makes of it."""
    how = Preprocessing(size, MEAN, STD, Interpolation(interpolation), ResizeMode(mode), fill_color=37)
    reference = open_clip.image_transform(
        size, False, MEAN, STD, resize_mode=mode, interpolation=interpolation, fill_color=37
    )
    for shape in SHAPES:
        image = noise(*shape)
        ratio = max(shape[0] / size[1], shape[1] / size[0])
        if mode == ResizeMode.LONGEST and round(min(shape) / ratio) == 0:
            continue  # open_clip's transform fails there
        mine = preprocess.normalise(preprocess.fit(image, how)[None], how)[0]
        theirs = reference(image).numpy()
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs), shape


@pytest.mark.parametrize("mode", ResizeMode)
@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (1, 1)])
def test_no_side_rounds_to_nothing(mode: str, shape: tuple[int, int]) -> None:
    """A strip as thin as can be still has the model's size, and its own colour."""
    for size in [(8, 8), (4, 16), (1, 1)]:
        how = Preprocessing(size, MEAN, STD, resize_mode=ResizeMode(mode), fill_color=200)
        pixels = preprocess.fit(Image.new("RGB", shape, (200, 200, 200)), how)
        assert pixels.shape == (*size, 3)
        assert (pixels == 200).all()


@pytest.mark.parametrize("interpolation", Interpolation)
@pytest.mark.parametrize("mode", [ResizeMode.SHORTEST, ResizeMode.LONGEST])
@pytest.mark.parametrize("size", [(32, 32), (48, 32), (9, 30)])
def test_partial_resizing(
    size: tuple[int, int], mode: ResizeMode, interpolation: Interpolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computing only what is kept of a huge resized image gives what computing all of it gives."""
    how = Preprocessing(size, MEAN, STD, interpolation, mode)
    for shape in [(1, 300), (301, 7), (64, 43), (3, 2000), (5000, 1), (2, 2), (400, 399)]:
        # Away from black and white, where clipping between Pillow's two passes depends on their order.
        image = noise(*shape).point(lambda value: 100 + value // 5)
        monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 1 << 24)
        whole = preprocess.fit(image, how).astype(int)
        monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 0)
        assert np.abs(preprocess.fit(image, how) - whole).max() <= 1, shape


def test_partial_resizing_far_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million pixels into a strip, single-precision coordinates would be off by a visible amount."""
    how = Preprocessing((4, 4), MEAN, STD)
    image = noise(3, 1_000_001).point(lambda value: 100 + value // 5)
    whole = preprocess.fit(image, how).astype(int)
    monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 0)
    assert np.abs(preprocess.fit(image, how) - whole).max() <= 1


def test_huge_strip_costs_little() -> None:
    """A strip that would be resized to 224 x 22 million pixels is fitted without making them."""
    how = Preprocessing((224, 224), MEAN, STD)
    assert preprocess.fit(Image.new("RGB", (1, 100_000), (9, 8, 7)), how).tolist()[0][0] == [9, 8, 7]


def test_normalise_by_hand() -> None:
    """255 is 1 before the mean is subtracted and the deviation divided by, and channels come first."""
    how = Preprocessing((1, 2), (0.5, 0.0, 0.25), (0.5, 1.0, 0.25))
    pixels = np.array([[[[255, 0, 255], [0, 255, 51]]]], dtype=np.uint8)
    planes = preprocess.normalise(pixels, how)
    assert planes.shape == (1, 3, 1, 2)
    assert planes.ravel().tolist() == pytest.approx([1, -1, 0, 1, 3, -0.2])
