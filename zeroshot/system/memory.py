"""How much memory is available, by the system and by the container's limit."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")

_SIGNS = (
    *("bad_alloc", "bad allocation", "allocate memory", "cannot allocate", "not enough memory", "out of memory"),
    *("failed to map segment", "can't start new thread"),
)
"""Messages of libraries for it: ONNX Runtime, torch, the dynamic linker, Python's threads."""


def available_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes that this process can allocate without swapping; None where this is not known.

    On Linux that is the kernel's estimate, or what the process's control groups (version 1 or 2) leave of their
    limits if that is less. Elsewhere it is half of the memory that is built in.

    Args:
        root: Where `proc` and `sys` are; for tests.
    """
    known = [*_kernel_estimate(root), *_group_rests(root)]
    if known:
        return max(0, min(known))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or its cause, is a lack of memory; libraries report it in several ways."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or getattr(seen, "errno", None) == errno.ENOMEM:
            return True
        text = str(seen).lower()
        if isinstance(seen, RuntimeError | ImportError | OSError) and any(sign in text for sign in _SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _kernel_estimate(root: Path) -> Iterator[int]:
    for name, value in _read_table(root / "proc/meminfo"):
        if name == "MemAvailable:":
            yield value * 1024


def _group_rests(root: Path) -> Iterator[int]:
    """Yield what is left of each control group's limit above this process."""
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, limit, used, total = "", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            mount, limit, used, total = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        else:
            continue
        top = root / "sys/fs/cgroup" / mount
        # Inside a container the group may be named as the host knows it, and only the top of its tree is to be seen.
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            limits, uses = (list(_read_lines(folder / name)) for name in (limit, used))
            if limits and uses and limits[0].isdigit():
                # Files that were read count as used, and are dropped when memory is wanted, those read twice too.
                cached = (f"{total}inactive_file", f"{total}active_file")
                files = sum(value for name, value in _read_table(folder / "memory.stat") if name in cached)
                yield int(limits[0]) - int(uses[0]) + files


def _read_table(path: Path) -> Iterator[tuple[str, int]]:
    for line in _read_lines(path):
        name, value, *_ = [*line.split(), "", ""]
        if value.isdigit():
            yield name, int(value)


def _read_lines(path: Path) -> Iterator[str]:
    try:
        yield from os.fsdecode(path.read_bytes()).splitlines()  # groups may be named in any bytes
    except OSError:
        return
