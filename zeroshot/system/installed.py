"""Tells how many cores this process may use, and which versions of packages are installed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache


def available_cores() -> int:
    """Return the number of cores that this process may run on, which a container or taskset can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, by its name; ``missing`` for one that is not installed."""
    return {package: _installed().get(_normalised(package)) or _ask(package) for package in packages}


def how_to_install(extra: str) -> str:
    """Return the command that installs the packages of an extra, by their own names.

    ``pip install 'zeroshot[...]'`` would install another project, which has this name on PyPI.
    """
    import importlib.metadata

    with suppress(importlib.metadata.PackageNotFoundError):
        lines = importlib.metadata.requires("zeroshot") or ()
        marked = re.compile(rf"\s*([^;]+?)\s*;.*\bextra\s*==\s*[\"']{re.escape(extra)}[\"']")
        if found := [match[1] for match in map(marked.match, lines) if match]:
            return "pip install " + " ".join(f"'{package}'" for package in found)
    return f"pip install '.[{extra}]' in the checkout"


@cache
def _installed() -> dict[str, str]:
    """Return versions by name as the names of ``dist-info`` folders have them, the first on the path of each.

    `importlib.metadata` reads a file of each as an e-mail, whose modules take 50 ms to import.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for entry in os.listdir(folder or os.curdir):  # noqa: PTH208 - a path's parts are not needed
                if entry.endswith(".dist-info"):
                    name, _, version = entry.removesuffix(".dist-info").partition("-")
                    found.setdefault(_normalised(name), version)
    return found


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _ask(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
