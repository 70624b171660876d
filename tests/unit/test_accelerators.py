"""Whether a CUDA device can be there is found out without torch."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

from zeroshot.enums import Device
from zeroshot.errors import UsageError
from zeroshot.system import accelerators
from zeroshot.system.accelerators import Devices, parse_devices, show_only


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
    assert accelerators._torch_built_for() == found


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
    monkeypatch.setattr(accelerators, "_torch_built_for", lambda: built_for)
    assert (accelerators.missing_cuda() == "") == (said == "")
    assert said in accelerators.missing_cuda()


def test_devices_are_named_by_kind_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind, one of it, some of it, or all there are; anything else is refused with the value that was given."""
    monkeypatch.setattr(accelerators, "missing_cuda", lambda: "")
    monkeypatch.setattr(accelerators, "count_cuda", lambda: 3)
    assert parse_devices("auto") == Devices(Device.AUTO)
    assert parse_devices("cuda") == Devices(Device.CUDA)
    assert parse_devices("cuda:2") == Devices(Device.CUDA, (2,))
    assert parse_devices("cuda:2,0") == Devices(Device.CUDA, (2, 0))
    assert parse_devices("cuda:all") == Devices(Device.CUDA, (0, 1, 2))
    assert parse_devices("cpu:0,1") == Devices(Device.CPU, (0, 1))
    for text in ("gpu", "cuda:", "cuda:3", "cuda:0,0", "cuda:-1", "cuda:0;1", "mps:0", "auto:all", "cpu:all", ""):
        with pytest.raises(UsageError, match=f"--device {text}"):
            parse_devices(text)
    monkeypatch.setattr(accelerators, "missing_cuda", lambda: "there is no NVIDIA driver on this machine")
    with pytest.raises(UsageError, match="no NVIDIA driver"):
        parse_devices("cuda:all")


@pytest.mark.parametrize(("visible", "shown"), [(None, "1"), ("4,GPU-7", "GPU-7"), ("", "1")])
def test_a_process_is_shown_its_own_device(monkeypatch: pytest.MonkeyPatch, visible: str | None, shown: str) -> None:
    """Numbers count among the devices that are visible already."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    show_only(Device.CPU, 1)
    show_only(Device.CUDA, 1)
    assert accelerators.os.environ["CUDA_VISIBLE_DEVICES"] == shown


@pytest.mark.parametrize("which", ["all", "", "0,0", "x"])
def test_a_hint_on_processors_names_processors(which: str) -> None:
    """What may stand behind `cpu:` is not what may stand behind `cuda:`."""
    with pytest.raises(UsageError) as caught:
        parse_devices(f"cpu:{which}")
    assert "cpu:0,1" in caught.value.hint and "cuda" not in caught.value.hint
