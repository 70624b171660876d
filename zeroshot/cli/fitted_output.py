"""Writes what a command fitted on labelled images to its file, and prints the summary of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..enums import ReportFormat
from . import console
from .option_values import choose_report_format


def write_fitted(
    document: dict[str, Any],
    problems: Sequence[str],
    to_text: Callable[[str | None], str],
    output: Path,
    form: ReportFormat | None,
    *,
    force: bool,
    remarks: Sequence[str] = (),
) -> bool:
    """Write the file, unless something speaks against it, and print what was fitted.

    Args:
        document: What the file holds.
        problems: What speaks against writing it.
        to_text: Makes the table of the file's name, or of None where it was not written.
        output: The file.
        form: How to print; None for what the terminal takes.
        force: Write it all the same.
        remarks: What is to be known, and speaks against nothing; the table has them already.

    Returns:
        Whether it was written.
    """
    from ..output.destination import open_output
    from ..output.render.evaluation import encode

    refused = bool(problems) and not force
    if not refused:
        with open_output(output) as stream:
            stream.write(encode(document))
    as_json = choose_report_format(form, None) is ReportFormat.JSON
    if as_json:  # which has no place for them
        for problem in problems:
            console.say(f"zeroshot: {problem}{f'; {output} is not written without --force' if refused else ''}")
        for remark in remarks:
            console.note(remark)
    with open_output(None) as stream:
        text = to_text(None if refused else str(output))
        stream.write(encode(document) if as_json else text.encode("utf-8", "backslashreplace"))
    return not refused
