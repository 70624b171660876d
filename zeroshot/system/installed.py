"""What this process may use and what is installed."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable


def available_cores() -> int:
    """Return the number of cores that this process may run on, which a container or taskset can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, by its name; ``missing`` for one that is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
