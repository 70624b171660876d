"""``FILE.manifest.json``: the recipe of a results file that can be continued."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..system.durable_files import sync_folder

FORMAT = "zeroshot-resume"
VERSION = 1

_MOST_SHOWN = 60


def resume_manifest_path(target: Path) -> Path:
    """Return where the manifest of a results file stands."""
    return target.with_name(target.name + ".manifest.json")


def read_resume_manifest(target: Path) -> dict[str, Any] | None:
    """Return the manifest of a results file; None where there is none of ours that can be read."""
    try:
        document = json.loads(resume_manifest_path(target).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document.get("format") == FORMAT else None


def write_resume_manifest(target: Path, document: dict[str, Any]) -> None:
    """Write the manifest of a results file; it is complete on the disk when this returns."""
    path = resume_manifest_path(target)
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_resume_manifest(target: Path) -> None:
    """Remove the manifest of a results file that is about to be replaced, and flush that to the disk."""
    if read_resume_manifest(target) is not None:
        resume_manifest_path(target).unlink(missing_ok=True)
        sync_folder(target.parent)


def first_difference(recorded: Any, now: Any, where: str = "") -> str:
    """Name the first place where two plain documents differ; empty where they are equal."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*now, *recorded)):
            if found := first_difference(recorded.get(key), now.get(key), f"{where}.{key}" if where else str(key)):
                return found
        return ""
    if isinstance(recorded, list) and isinstance(now, list) and (len(recorded) == len(now) or _too_long(recorded, now)):
        for index, (one, other) in enumerate(zip(recorded, now, strict=False)):
            if found := first_difference(one, other, f"{where}[{index}]"):
                return found
        return "" if len(recorded) == len(now) else f"{where} had {len(recorded)} entries, has {len(now)}"
    if recorded == now and type(recorded) is type(now):
        return ""
    return f"{where} was {_short(recorded)}, is {_short(now)}"


def _too_long(*values: Any) -> bool:
    return any(len(json.dumps(value)) > _MOST_SHOWN for value in values)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"
