"""The plan of a sort: what goes where, and what stays."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rich.cells import cell_len

from ...enums import PlanFormat
from ...messages import printable
from ...results import significant
from ...sort.plan import Stay, Step
from .json_lines import to_json
from .records_table import cut_left, cut_right


def write_plan(
    plan: Sequence[Step | Stay],
    form: PlanFormat,
    stream: BinaryIO,
    *,
    width: int | None = None,
    kept: Mapping[str, str] | None = None,
) -> None:
    """Write a plan.

    Args:
        plan: What goes where, and what stays.
        form: The format.
        stream: Where it is written.
        width: Columns of the terminal that shows a table, on which only what goes has a row; None where it is none.
        kept: Of duplicates, the best copy of each, which stays, by the path that goes.
    """
    if form is PlanFormat.JSON:
        stream.write(to_json([_row(item, kept) for item in plan], indent=1) + b"\n")
    elif form is PlanFormat.JSONL:
        stream.writelines(to_json(_row(item, kept)) + b"\n" for item in plan)
    else:
        lines = _table(plan, width, kept) if width else (_line(item, kept) for item in plan)
        stream.writelines(line.encode("utf-8", "backslashreplace") + b"\n" for line in lines)


def _row(item: Step | Stay, kept: Mapping[str, str] | None) -> dict[str, Any]:
    if isinstance(item, Stay):
        return {"path": item.path, "action": "stay", "reason": item.reason, "failed": item.failed}
    number = None if math.isnan(item.probability) else significant(item.probability)
    row = {"path": item.path, "action": str(item.placement), "target": str(item.target), "label": item.label}
    return row | {"probability": number} | ({"kept": kept[item.path]} if kept else {})


def _number(step: Step) -> str:
    return "     –" if math.isnan(step.probability) else f"{100 * step.probability:5.1f}%"


def _line(item: Step | Stay, kept: Mapping[str, str] | None) -> str:
    """Return a line for a pipe, with whole paths."""
    if isinstance(item, Stay):
        return printable(f"stay          {item.path}: {item.reason}")
    beside = f"  (kept: {kept[item.path]})" if kept else ""
    # The number in front, where a narrow terminal cannot break it.
    return printable(f"{item.placement}  {_number(item)}  {item.path} -> {item.target}{beside}")


def _table(plan: Sequence[Step | Stay], width: int, kept: Mapping[str, str] | None) -> list[str]:
    """Return a row for each image that goes, cut to the terminal: from where, to where below the target, how sure."""
    rows: list[tuple[str, str, str, str]] = []
    for item in plan:
        if isinstance(item, Step):
            last = _relative(kept[item.path]) if kept else f"nearly {item.nearly}" * bool(item.nearly)
            target = f"{item.target.parent.name}/{item.target.name}"
            rows.append((printable(_relative(item.path)), printable(target), _number(item), printable(last)))
    if not rows:
        return []
    placement = next(str(item.placement) for item in plan if isinstance(item, Step))
    heading = (placement, "to", *(("alike", "kept") if kept else ("prob.", "")))
    cut = cut_left if kept else cut_right  # the end of a path tells files apart
    widths = [max(cell_len(row[column]) for row in (heading, *rows)) for column in range(4)]
    most = max(8, (width - 12 - min(widths[3], width // 4)) // 2)
    paths, targets = min(widths[0], most), min(widths[1], most)
    room = width - paths - targets - 12
    lines = []
    for path, target, number, last in (heading, *rows):
        line = f"{cut_left(path, paths)}  {cut_right(target, targets)}  {number:>6}"
        lines.append(f"{line}  {cut(last, room)}".rstrip() if last and room > 0 else line.rstrip())
    return lines


def _relative(path: str) -> str:
    """Return a path as seen from here, where it lies below."""
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here) or path
