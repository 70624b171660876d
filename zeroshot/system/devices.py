"""Whether an accelerator can be there, found out without importing torch, which takes many seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
from pathlib import Path

_DRIVERS = {"Linux": "libcuda.so.1", "Windows": "nvcuda.dll"}


def missing_cuda() -> str:
    """Say why PyTorch cannot find a CUDA device here; nothing where it may find one."""
    built_for = _torch_built_for()
    if built_for == "":
        return "the PyTorch that is installed is built without CUDA"
    if built_for == "hip":  # AMD's devices go by the same name, and have another driver
        return ""
    try:
        driver = ctypes.CDLL(_DRIVERS[platform.system()])
        count = ctypes.c_int(0)
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (KeyError, OSError, AttributeError):
        return "there is no NVIDIA driver on this machine"
    return "" if found else "the NVIDIA driver finds no device"


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
