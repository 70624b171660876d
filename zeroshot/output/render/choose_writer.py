"""Makes the writer of a format of records."""

from __future__ import annotations

import io
from typing import BinaryIO

from ...enums import Format
from ...results import Failure
from .records import JsonlWriter, JsonWriter, Layout, PathWriter, SeparatedWriter, Writer
from .records_table import TableWriter


def make_writer(form: Format, stream: BinaryIO, layout: Layout) -> Writer:
    """Return the writer of a format, or of paths alone where the layout asks for those."""
    if layout.path_end:
        return PathWriter(stream, layout)
    if form in (Format.CSV, Format.TSV):
        return SeparatedWriter(stream, layout, form)
    if form is Format.TABLE:
        return TableWriter(stream, layout)
    return JsonWriter(stream, layout) if form is Format.JSON else JsonlWriter(stream, layout)


def shows_whole(form: Format, layout: Layout, failure: Failure) -> bool:
    """Whether a failure has a record that gives its reason whole."""
    writer = make_writer(form, io.BytesIO(), layout)
    if isinstance(writer, PathWriter) or layout.only:
        return False
    return not isinstance(writer, TableWriter) or writer.has_room(failure)
