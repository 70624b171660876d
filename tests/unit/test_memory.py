"""Memory for images: what there is, what an image takes, and which images are refused for want of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support import decoders
from support.fakes import FakeModel
from support.fixtures import SaveImage
from support.images import open_image
from zeroshot.cli.main import app
from zeroshot.errors import ImageError
from zeroshot.images.decode import DecodeOptions, _bytes_per_pixel, to_rgb
from zeroshot.images.isolate import Isolation, isolated
from zeroshot.system import memory
from zeroshot.system.memory import available_memory

MEMINFO = "MemTotal:       8000000 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\nHugePages_Total:  0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with 4 GB to be had and no control groups."""
    write(tmp_path / "proc/meminfo", MEMINFO)
    return tmp_path


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def write_group(folder: Path, limit: str | int, used: int, cached: int, *, version: int) -> None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write(folder / names[0], limit)
    write(folder / names[1], used)
    total, own = ("", "") if version == 2 else ("total_", "\nactive_file 7")
    once = cached // 3  # the rest was read twice
    write(folder / "memory.stat", f"anon 1\n{total}inactive_file {once}\n{total}active_file {cached - once}{own}")


def test_the_kernels_estimate(root: Path) -> None:
    """Without limits it is what the kernel calls available, not what is free."""
    assert available_memory(root) == 4_096_000_000


def test_control_groups(root: Path) -> None:
    """A limit of the group or of one above it counts, less what is used but for cached files; "max" is none."""
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_bytes(b"1:name=\xff:/\xff\n0::/user/run\n")
    top = root / "sys/fs/cgroup"
    write_group(top / "user/run", "max", 500, 0, version=2)
    assert available_memory(root) == 4_096_000_000
    write_group(top / "user", 1_000_000, 400_000, 50_000, version=2)
    assert available_memory(root) == 650_000
    write_group(top / "user/run", 300_000, 200_000, 0, version=2)
    assert available_memory(root) == 100_000
    write_group(top / "user/run", 300_000, 310_000, 0, version=2)
    assert available_memory(root) == 0


def test_control_groups_of_version_1(root: Path) -> None:
    """Likewise where each controller has a tree of its own, also when only its top is to be seen."""
    write(root / "proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc:d\n0::/")
    top = root / "sys/fs/cgroup/memory"
    write_group(top, 2**63 - 4096, 10**9, 0, version=1)
    assert available_memory(root) == 4_096_000_000
    write_group(top, 10**9, 4 * 10**8, 10**8, version=1)
    assert available_memory(root) == 7 * 10**8
    write_group(top / "docker/abc:d", 10**8, 10**7, 0, version=1)
    assert available_memory(root) == 9 * 10**7


def test_other_systems(tmp_path: Path) -> None:
    """Where there is no /proc it is half of the memory there is, or unknown."""
    found = available_memory(tmp_path)
    assert found is None or found > 10**8


def limit_of(path: Path, how: DecodeOptions) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(str(path), how)
    return caught.value.message


def test_a_image_for_which_memory_is_short(images: SaveImage) -> None:
    """It is refused with the limit, that memory sets it, and what raises it; smaller ones are not."""
    path = images("a.png", "red", (100, 50))
    assert open_image(str(path), DecodeOptions(memory=5000 * 12)).size == (100, 50)
    assert limit_of(path, DecodeOptions(memory=5000 * 12 - 1)) == (
        "100 x 50 pixels is over the limit of 4,999 that the available memory sets for such an image"
        " (--max-pixels or fewer --workers raise it)"
    )
    assert "memory" not in limit_of(path, DecodeOptions(max_pixels=4999, memory=10))


def test_the_limit_of_a_command(fake_model: FakeModel, images: SaveImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the memory is shared among the workers; --max-pixels wins over it."""
    path = images("a.png", "red", (100, 50))
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 3 * 5000 * 12)

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["classify", str(path), "--labels", "red,blue", *map(str, arguments)])

    assert run("--workers", 3).exit_code == 0
    refused = run("--workers", 4, "--no-cache")
    assert refused.exit_code == 3
    assert "limit of 3,750 that the available memory sets" in refused.stdout
    assert run("--workers", 4, "--no-cache", "--max-pixels", 5000).exit_code == 0
    assert "over the limit of 4,999 (--max-pixels" in run("--no-cache", "--max-pixels", 4999).stdout
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert run("--workers", 4, "--no-cache").exit_code == 0


KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 1}),
    ("PNG", "I;16", {}),
    ("GIF", "P", {"transparency": 1}),
    ("BMP", "RGB", {}),
    ("TGA", "RGBA", {}),
    ("SGI", "RGB", {}),
    ("TIFF", "F", {}),
    ("TIFF", "I", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    ("WEBP", "RGBA", {"method": 0}),
    ("WEBP", "RGB", {"lossless": True, "method": 0}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("JPEG2000", "RGBA", {}),
]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of memory as Linux tells it")
def test_what_images_take(tmp_path: Path) -> None:
    """No kind of image takes more than it is counted with, turned upright included, but for a fixed 6 MB."""
    Image.init()
    noise = Image.effect_noise((60, 60), 90).resize((1200, 1200), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x112] = 6
    found = {}
    with isolated(decoders.peak_bytes, Isolation()) as read:
        for form, mode, options in KINDS:
            if form not in Image.SAVE:
                continue
            if mode == "I;16":
                image = Image.fromarray(np.asarray(noise).astype(np.uint16) * 257)
            else:
                image = noise.convert("RGB").convert(mode) if mode in ("CMYK", "RGBA") else noise.convert(mode)
            if mode == "RGBA":
                image.putalpha(noise)
            path = tmp_path / "image"
            image.save(path, form, exif=exif, **options)
            with path.open("rb") as file:
                taken = read(file)
            with Image.open(path) as opened:
                counted = _bytes_per_pixel(opened) * image.width * image.height
            found[f"{form} {mode} {options}"] = (taken, counted)
    assert {kind: both for kind, both in found.items() if both[0] > both[1] + 6_000_000} == {}
    assert sys.platform != "linux" or len(found) > 10


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "PA", "RGBa", "P", "L", "I;16", "I;16B", "I", "F"])
def test_bands_change_nothing(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is converted some rows at a time is equal to one that is converted as a whole."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    if mode in ("I", "F"):
        image = Image.fromarray((noise[..., 0].astype(np.int32 if mode == "I" else np.float32) + 40) * 200)
    elif mode.startswith("I;16"):
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 250)
        if mode == "I;16B":
            image = Image.frombytes(mode, image.size, image.tobytes())
    else:
        image = Image.fromarray(noise)
        for step in {"La": ("LA", "La"), "PA": ("P", "PA")}.get(mode, (mode,)):
            image = image.convert(step)
        if mode in ("P", "L"):
            image.info["transparency"] = 7
    whole = np.asarray(to_rgb(image))
    monkeypatch.setattr("zeroshot.images.rgb._BAND_PIXELS", 23 * 5)
    assert np.array_equal(np.asarray(to_rgb(image)), whole)
    assert len(np.unique(whole)) > 5
