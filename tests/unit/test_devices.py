"""Whether a CUDA device can be there is found out without torch."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

from zeroshot.system import devices


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cuda: Optional[str] = '13.2'\nhip: Optional[str] = None\n", "cuda"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n", "hip"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", ""),
        ("__version__ = '9'\n", None),
    ],
)
def test_what_torch_was_built_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: str | None
) -> None:
    """Its version file says so."""
    (tmp_path / "version.py").write_text(text)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert devices._torch_built_for() == found


@pytest.mark.parametrize(
    ("built_for", "devices_there", "said"),
    [
        ("", 1, "built without CUDA"),
        ("hip", None, ""),
        ("cuda", None, "no NVIDIA driver"),
        ("cuda", 0, "finds no device"),
        ("cuda", 2, ""),
    ],
)
def test_cuda(monkeypatch: pytest.MonkeyPatch, built_for: str, devices_there: int | None, said: str) -> None:
    """The driver is asked where PyTorch could use it."""

    class Driver:
        def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
            return 0

        def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
            count._obj.value = devices_there  # type: ignore[attr-defined]
            return 0

    def load(name: str) -> Driver:
        if devices_there is None:
            raise OSError(name)
        return Driver()

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(devices, "_torch_built_for", lambda: built_for)
    assert (devices.missing_cuda() == "") == (said == "")
    assert said in devices.missing_cuda()
