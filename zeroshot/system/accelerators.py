"""Finds out whether an accelerator can be used, without importing torch, which takes many seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from ..enums import Device
from ..errors import UsageError

_DRIVERS = {"Linux": "libcuda.so.1", "Windows": "nvcuda.dll"}


_VISIBLE = "CUDA_VISIBLE_DEVICES"
_EXAMPLE = "--device cuda, --device cuda:0,1 or --device cuda:all"
_EXAMPLES = {Device.CUDA: _EXAMPLE, Device.CPU: "--device cpu, or --device cpu:0,1 for two processes on the processor"}


@dataclass(frozen=True, slots=True)
class Devices:
    """Where a model runs.

    Attributes:
        kind: Of device.
        indices: Which of the kind; empty for the one that is taken by itself.
    """

    kind: Device
    indices: tuple[int, ...] = ()


def parse_devices(text: str) -> Devices:
    """Parse ``cuda``, ``cuda:1``, ``cuda:0,1`` or ``cuda:all``; so for ``cpu``, where a device is one more process.

    Raises:
        UsageError: It is none of these, or there are no such devices.
    """
    name, separator, which = text.partition(":")
    if name not in list(Device):
        raise UsageError(f"--device {text}: no device is called {name}", f"one of {', '.join(Device)}; {_EXAMPLE}")
    kind = Device(name)
    if not separator:
        return Devices(kind)
    if kind not in (Device.CUDA, Device.CPU):
        raise UsageError(f"--device {text}: {kind} has no numbers", f"--device {kind}")
    if which == "all" and kind is Device.CUDA:
        if reason := missing_cuda():
            raise UsageError(f"--device {text}: {reason}", "--device auto; `zeroshot doctor` lists the devices")
        return Devices(kind, tuple(range(count_cuda())))
    numbers = which.split(",")
    if not all(number.isascii() and number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise UsageError(f"--device {text}: expected numbers from 0, each once", _EXAMPLES[kind])
    indices = tuple(map(int, numbers))
    if kind is Device.CUDA and not missing_cuda() and max(indices) >= count_cuda():
        raise UsageError(f"--device {text}: there are {count_cuda()} CUDA devices here", "they are counted from 0")
    return Devices(kind, indices)


def show_only(kind: Device, index: int) -> None:
    """Let this process see one device of a kind alone, under the number 0; to be called before PyTorch is imported."""
    if kind is Device.CUDA:
        visible = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = visible.split(",")[index].strip() if visible else str(index)


def count_cuda() -> int:
    """Return how many CUDA devices this process sees, as the driver says; 0 where there is none."""
    try:
        driver = ctypes.CDLL(_DRIVERS[platform.system()])
        count = ctypes.c_int(0)
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (KeyError, OSError, AttributeError):
        return 0
    return count.value if found else 0


def missing_cuda() -> str:
    """Say why PyTorch cannot find a CUDA device here; nothing where it may find one."""
    built_for = _torch_built_for()
    if built_for == "":
        return "the PyTorch that is installed is built without CUDA"
    if built_for == "hip":  # AMD's devices go by the same name, and have another driver
        return ""
    try:
        driver = ctypes.CDLL(_DRIVERS[platform.system()])
        driver.cuInit, driver.cuDeviceGetCount  # noqa: B018
    except (KeyError, OSError, AttributeError):
        return "there is no NVIDIA driver on this machine"
    return "" if count_cuda() else "the NVIDIA driver finds no device"


def missing_mps() -> str:
    """Say why PyTorch cannot run on Apple's GPU here; nothing where it may."""
    here = (platform.system(), platform.machine())
    return "" if here == ("Darwin", "arm64") else "this is no Mac with Apple silicon"


def _torch_built_for() -> str | None:
    """Return ``cuda`` or ``hip`` from the file in which PyTorch says it, ``""`` for neither; None if unknown."""
    try:
        spec = importlib.util.find_spec("torch")
        text = (Path(spec.origin or "").parent / "version.py").read_text(encoding="utf-8") if spec else ""
    except (OSError, ValueError):
        return None
    values = dict(re.findall(r"(?m)^(cuda|hip)\b[^=\n]*=\s*(\S+)", text))
    if not values:
        return None
    return next((name for name in ("hip", "cuda") if values.get(name, "None") != "None"), "")
