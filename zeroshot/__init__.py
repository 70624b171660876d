"""Sort images by words: zero-shot image classification with CLIP models.

    >>> import zeroshot
    >>> for record in zeroshot.classify("examples", ["cat", "coffee", "bridge"], model="tiny"):
    ...     print(record.path, record.label, record.error)

The public names are those of ``__init__.pyi``. Each is imported when it is first used, so that ``import zeroshot`` is
quick; torch only when a model is loaded into it.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def _homes() -> dict[str, tuple[str, str]]:
    """Return where each public name is defined: its module, and what it is called there."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (f".{node.module}", alias.name) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("_") or name not in _homes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _homes()[name]
    return getattr(importlib.import_module(module, __name__), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()})
