"""How far a run is, as a table for a terminal or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Protocol

from ...enums import ReportFormat
from ...messages import shell_word
from .json_lines import to_json

STATUS_FORMAT = "zeroshot-run-status"
VERSION = 1


class RunStatus(Protocol):
    """What is told of a run; see `distribute.merge.Status`."""

    @property
    def place(self) -> str: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def shards(self) -> int: ...  # noqa: D102
    @property
    def committed(self) -> int: ...  # noqa: D102
    @property
    def images(self) -> int | None: ...  # noqa: D102
    @property
    def records(self) -> int: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102
    @property
    def missing(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def damaged(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def made_by(self) -> Sequence[tuple[str, int]]: ...  # noqa: D102


def write_status(status: RunStatus, form: ReportFormat, stream: BinaryIO) -> None:
    """Write it."""
    if form is ReportFormat.JSON:
        document = {
            "format": STATUS_FORMAT,
            "version": VERSION,
            "id": status.id,
            "shards": status.shards,
            "committed": status.committed,
            "images": status.images,
            "records": status.records,
            "failures": status.failures,
            "missing": list(status.missing),
            "damaged": list(status.damaged),
            "made_by": [{"by": maker, "shards": count} for maker, count in status.made_by],
        }
        stream.write(to_json(document, indent=1) + b"\n")
        return
    images = "unknown" if status.images is None else f"{status.images:,}"
    repair = f"`zeroshot run work {shell_word(status.place)} --verify` computes them again"
    rows = [
        ("run", status.id[:12]),
        ("shards", f"{status.committed:,} of {status.shards:,} committed"),
        ("records", f"{status.records:,} of {images} images, {status.failures:,} of them failures"),
        *([("damaged", f"{len(status.damaged):,}; {repair}")] if status.damaged else []),
        *(("made by", f"{maker}: {count:,} shards") for maker, count in status.made_by),
    ]
    for name, value in rows:
        stream.write(f"{name:<8}  {value}\n".encode("utf-8", "backslashreplace"))
