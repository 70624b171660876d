"""`--resize fast`: nearly Pillow's values, under a key of its own, and never where exactness is promised."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.fakes import FakeEncoder
from zeroshot.cli.pipeline_options import ImageOptions
from zeroshot.encoder import Interpolation, Preprocessing, ResizeMode
from zeroshot.enums import Resampler
from zeroshot.errors import UsageError
from zeroshot.features.decoder_fingerprint import _pattern
from zeroshot.features.keys import image_key
from zeroshot.images import fast_resize
from zeroshot.images.decode import DecodeOptions
from zeroshot.images.preprocess import fit

PHOTOS = sorted((Path(__file__).parents[2] / "examples").rglob("*.jpg"))


def way(mode: ResizeMode, filter_: Interpolation) -> Preprocessing:
    return Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3, filter_, mode)


@pytest.mark.parametrize("mode", list(ResizeMode))
@pytest.mark.parametrize("filter_", list(Interpolation))
def test_photographs_are_nearly_what_pillow_makes(mode: ResizeMode, filter_: Interpolation) -> None:
    """Of the values of photographs at most one in a hundred differs, by at most 2."""
    assert PHOTOS
    apart = []
    for path in PHOTOS:
        with Image.open(path) as image:
            whole = image.convert("RGB")
        exact, fast = (fit(whole, way(mode, filter_), how).astype(int) for how in Resampler)
        assert fast.shape == exact.shape == (64, 64, 3)
        apart.append(np.abs(fast - exact))
    assert max(one.max() for one in apart) <= 2
    assert 0 < np.mean([np.mean(one > 0) for one in apart]) < 0.01


@pytest.mark.parametrize("shape", [(20, 900), (900, 20), (64, 64), (64, 200), (7, 5), (1, 1), (1, 9000)])
def test_any_shape_is_brought_to_size(shape: tuple[int, int]) -> None:
    """Strips, enlarged images, and those that have the size already: the rectangle, near what Pillow makes."""
    image = Image.fromarray(_pattern(*shape))
    for mode in ResizeMode:
        exact, fast = (fit(image, way(mode, Interpolation.BICUBIC), how).astype(int) for how in Resampler)
        assert np.abs(fast - exact).max() <= 10  # Pillow turns its two passes around for some strips


def test_its_features_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way and another version of the package are other keys; exact resizing keeps the one it had."""
    spec = FakeEncoder().spec

    def key(resampler: Resampler) -> bytes:
        return image_key(spec, DecodeOptions(resize=resampler), b"made")

    keys = {key(Resampler.EXACT), key(Resampler.FAST)}
    monkeypatch.setattr(fast_resize, "version_of", lambda _: "99")
    keys.add(key(Resampler.FAST))
    assert len(keys) == 3
    assert image_key(spec, DecodeOptions(), b"made") == key(Resampler.EXACT)


def test_it_stands_in_the_manifest() -> None:
    """Figures of fast resizing say so, with the version; exact ones are as they were."""
    fast = ImageOptions(resize=Resampler.FAST, no_cache=True)
    assert fast.choices(fast.pipeline())["resize"] == f"fast {fast_resize.version_of(Resampler.FAST)}"
    exact = ImageOptions(no_cache=True)
    assert "resize" not in exact.choices(exact.pipeline())


def test_published_protocols_refuse_it() -> None:
    """A protocol is measured with exact resizing, or not at all."""
    with pytest.raises(UsageError, match="exact resizing"):
        ImageOptions(resize=Resampler.FAST, no_cache=True).pipeline(as_stored=True)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line and a hint, before the model is loaded; exact resizing does not look for it."""
    from zeroshot.cli.main import app

    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)
    fast_resize.version_of.cache_clear()
    words = ["classify", str(PHOTOS[0]), "--labels", "a,b", "--model", "nonesuch"]
    result = CliRunner().invoke(app, [*words, "--resize", "fast"])
    assert result.exit_code == 2
    assert "cykooz-resizer" in result.stderr
    assert "try: pip install 'cykooz-resizer" in result.stderr
    assert fast_resize.version_of(Resampler.EXACT) == ""
    fast_resize.version_of.cache_clear()
