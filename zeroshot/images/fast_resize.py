"""Resizing by vector instructions, through cykooz-resizer (extra `fast`): nearly Pillow's values.

In two passes of one axis each, the width first, as Pillow resizes: on 500 x 375 photographs 0.4 % of values differ,
none by more than 2. In one call 20 % differ, by up to 11.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL import Image

from ..enums import Resampler
from ..errors import UsageError
from ..system.installed import how_to_install

_PACKAGE = "cykooz-resizer"


@cache
def version_of(resampler: Resampler) -> str:
    """Return the version of what decides values besides the installed Pillow; empty for exact resizing.

    Raises:
        UsageError: The package is missing.
    """
    if resampler is Resampler.EXACT:
        return ""
    try:
        import cykooz_resizer  # noqa: F401 - says by an error of its own that it cannot be loaded

        return version(_PACKAGE)
    except (ImportError, PackageNotFoundError) as error:
        raise UsageError(
            f"--resize fast needs {_PACKAGE}: {error}", f"{how_to_install('fast')}, or --resize exact"
        ) from error


def resize_fast(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """Resize an RGB image to ``(width, height)``, bicubic or bilinear, with antialiasing as Pillow's."""
    from cykooz_resizer import Resizer

    for step in ((size[0], image.height), size):
        if step != image.size:
            resized = Image.new("RGB", step)
            Resizer().resize_pil(image, resized, _options(resampling))
            image = resized
    return image


@cache
def _options(resampling: Image.Resampling) -> Any:
    from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions

    kinds = {Image.Resampling.BICUBIC: FilterType.catmull_rom, Image.Resampling.BILINEAR: FilterType.bilinear}
    return ResizeOptions(resize_alg=ResizeAlg.convolution(kinds[resampling]))
