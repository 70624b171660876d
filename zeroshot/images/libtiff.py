"""Silences libtiff, which prints up to a hundred lines on stderr about one damaged file."""

from __future__ import annotations

import ctypes
import functools
from contextlib import suppress
from pathlib import Path

import PIL

_FOLDERS = ("../pillow.libs", ".dylibs")
"""Where wheels of Pillow keep the libraries that they bring, seen from the package."""


@functools.cache
def silence() -> None:
    """Stop libtiff from printing; its errors still reach the caller as Pillow's exceptions.

    Where Pillow was built with libtiff inside, or with the system's, nothing is changed.
    """
    package = Path(PIL.__file__).parent
    for folder in _FOLDERS:
        for path in (package / folder).glob("libtiff*"):
            with suppress(OSError, AttributeError):
                library = ctypes.CDLL(str(path.resolve()))  # the one that is loaded already
                for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                    setter = getattr(library, name)
                    setter.argtypes, setter.restype = (ctypes.c_void_p,), ctypes.c_void_p
                    setter(None)
