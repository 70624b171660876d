"""Parses and checks values of options: formats, fields, folders, and the accuracy to reach."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from ..enums import Field, Format, ReportFormat
from ..errors import UsageError, nearest

_ENDINGS = {".json": Format.JSON, ".csv": Format.CSV, ".tsv": Format.TSV, ".txt": Format.TABLE}

_OF_OTHERS = frozenset(
    f".{ending}"
    for ending in (
        *("7z", "bz2", "db", "feather", "gz", "htm", "html", "jpg", "md", "npy", "npz", "ods", "parquet", "pdf"),
        *("pickle", "pkl", "png", "sqlite", "table", "tar", "toml", "xls", "xlsx", "xml", "xz", "yaml", "yml"),
        *("zip", "zst"),
    )
)
"""Endings that promise what no command writes with --output; any other one leaves the choice to us."""

_NO_DOCUMENT = _OF_OTHERS | {".csv", ".jsonl", ".tsv", ".txt"}

_NO_YAML = (_NO_DOCUMENT | {".json"}) - {".yaml", ".yml"}

_NO_PAGE = (_OF_OTHERS | {".csv", ".json", ".jsonl", ".tsv", ".txt"}) - {".htm", ".html"}


_OF_REPORTS = _OF_OTHERS | {".csv", ".tsv", ".jsonl"}

_OF_SEVERAL = (_OF_OTHERS, _OF_REPORTS)
"""Of outputs that --format decides on, too."""


def parse_folder(text: str) -> Path:
    """Return the folder that an option names; `--into "$UNSET"` names none, and must not be the current one.

    Raises:
        BadParameter: The text is empty.
    """
    if not text:
        raise typer.BadParameter("an empty text names no folder; `.` is the current one")
    return Path(text)


def choose_record_format(
    asked: Format | None, output: Path | None, hint: str = "end it in .jsonl, .json, .csv, .tsv or .txt"
) -> Format:
    """Return the format asked for, else that of the file's ending, else a table on a terminal and JSON lines.

    Args:
        asked: With --format.
        output: The file; None for stdout.
        hint: The endings that there are.

    Raises:
        UsageError: The ending promises another format.
    """
    _check_ending(asked, output, hint)
    if asked or output:
        return asked or _ENDINGS.get(output.suffix.lower() if output else "", Format.JSONL)
    return Format.TABLE if sys.stdout.isatty() else Format.JSONL


def choose_report_format(asked: ReportFormat | None, output: Path | None) -> ReportFormat:
    """Return the format asked for, else a table for ``.txt`` or a terminal, and JSON anywhere else.

    Raises:
        UsageError: The ending promises another format.
    """
    _check_ending(asked, output, "end it in .json or .txt", _OF_REPORTS)
    if asked or output:
        return asked or (ReportFormat.TABLE if output and output.suffix.lower() == ".txt" else ReportFormat.JSON)
    return ReportFormat.TABLE if sys.stdout.isatty() else ReportFormat.JSON


def check_document(output: Path) -> None:
    """Refuse another format's ending for a file that is JSON whatever it is called.

    Raises:
        UsageError: Names it.
    """
    _check_ending(None, output, "it is a JSON document: end it in .json", _NO_DOCUMENT, "--output")


def check_yaml(output: Path) -> None:
    """Refuse another format's ending for a file that is YAML whatever it is called.

    Raises:
        UsageError: Names it.
    """
    _check_ending(None, output, "it is a YAML set: end it in .yaml", _NO_YAML, "--output")


def check_page(report: Path | None) -> None:
    """Refuse a page under another format's ending.

    Raises:
        UsageError: Names it.
    """
    _check_ending(None, report, "a page is HTML: end it in .html", _NO_PAGE, "--report")


def _check_ending(
    asked: object, output: Path | None, hint: str, others: frozenset[str] = _OF_OTHERS, option: str = "--output"
) -> None:
    ending = output.suffix.lower() if output else ""
    if not asked and ending in others:
        page = "; `classify --report FILE` makes a page" * ending.startswith(".htm")
        how = f", or give --format{page}" if option == "--output" and others in _OF_SEVERAL else ""
        raise UsageError(f"{option} {output}: {ending} is none of the formats", f"{hint}{how}")


def parse_fields(text: str | None) -> tuple[Field, ...]:
    """Parse ``similarity,logit``; the probability is always given, first.

    Raises:
        UsageError: Names the unknown field.
    """
    fields = [Field.PROBABILITY]
    for name in (part.strip() for part in (text or "").split(",") if part.strip()):
        if name not in list(Field):
            raise UsageError(
                f"--fields: unknown field {name!r}{nearest(name, Field)}", f"the fields are {', '.join(Field)}"
            )
        if Field(name) not in fields:
            fields.append(Field(name))
    return tuple(fields)


def parse_bar(text: str, known: tuple[str, ...]) -> tuple[str, float]:
    """Parse ``top1=0.8`` of ``--fail-under``.

    Raises:
        UsageError: The metric is unknown, or the value no number in [0, 1].
    """
    name, _, value = text.partition("=")
    if name not in known:
        raise UsageError(
            f"--fail-under {text}: unknown metric {name!r}{nearest(name, known)}", f"the metrics are {', '.join(known)}"
        )
    try:
        bar = float(value)
    except ValueError:
        bar = -1.0
    if not 0 <= bar <= 1:
        raise UsageError(
            f"--fail-under {text}: expected a number from 0 to 1 after `{name}=`", f"--fail-under {name}=0.8"
        )
    return name, bar
