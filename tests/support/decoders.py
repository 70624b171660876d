"""Readers that crash, hang and worse, for processes that are to survive them; a file of its own, quick to import."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from PIL import Image

from zeroshot.features.pipeline import read_pixels as original_read_pixels
from zeroshot.images.decode import DecodeOptions, decode


def obey(file: IO[bytes]) -> object:
    """Do what the file says."""
    order, _, argument = file.read().decode().partition(" ")
    if order == "hang":
        Path(argument).write_text(str(os.getpid()))
        time.sleep(600)
    if order == "hang-locked":  # as a C decoder may, which never lets Python run
        Path(argument).write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(600)
    if order == "raise":
        raise ZeroDivisionError(argument)
    if order == "allocate":
        return len(bytearray(int(argument)))
    if order == "print":
        print("noise")
        sys.stdout.flush()
        os.write(1, b"noise")
    if order == "close":  # whatever is open, and then go on
        os.closerange(3, 100)
        time.sleep(600)
    if order == "exit":
        os._exit(int(argument))
    if order == "signal":
        os.kill(os.getpid(), signal.Signals[argument])
    return os.getpid()


def read_pixels(file: IO[bytes], **how: Any) -> Any:
    """Read as ever, but for images one pixel wide, which crash, and one pixel high, which hang."""
    with Image.open(file) as image:
        width, height = image.size
    if width == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if height == 1:
        time.sleep(600)
    file.seek(0)
    return original_read_pixels(file, **how)


def peak_bytes(file: IO[bytes]) -> int:
    """Decode, and return by how much that raised the memory of the process at its highest."""
    decode(file, DecodeOptions())  # whatever is allocated once
    file.seek(0)
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # what was freed is given back, and counts anew
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest
    before = _highest()
    decode(file, DecodeOptions())
    return _highest() - before


def _highest() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
