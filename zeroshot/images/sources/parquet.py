"""Rows of a ``.parquet`` file as images: a column of ``{bytes, path}`` as Hugging Face writes it, or one of bytes.

A row is called ``x.parquet::12/cat.jpg``: its number in the file, then the path that it brings, where it brings one.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from ...errors import ImageError, InputError
from ...system.installed import how_to_install
from .archives import check_size
from .byte_ranges import Blob, BlobFile

_NAMES = ("image", "img", "bytes", "image_bytes", "content", "jpg", "jpeg", "png", "webp", "picture")
"""Columns of plain bytes that are taken for images, in this order."""

_ROWS, _BATCH_BYTES, _KEPT_BYTES = 64, 8 << 20, 64 << 20
"""Rows and bytes that are unpacked together, and bytes that are kept for readers a little behind."""


class ParquetArchive:
    """A Parquet file, read forward through its row groups; a reader that goes back makes it begin a group again."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.damage = ""
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._forward: tuple[int, int, Iterator[Any]] | None = None  # group, number of its next batch, the batches
        self._starts = [0]
        pyarrow, parquet = _load()
        try:
            self._file = parquet.ParquetFile(pyarrow.PythonFile(BlobFile(blob), mode="r"))
            self._column, self._has_paths = _choose_column(pyarrow, self._file.schema_arrow)
            metadata = self._file.metadata
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
        except (pyarrow.ArrowException, OSError, ValueError, ImageError) as error:
            self.damage = f"not a Parquet file of images: {' '.join(str(error).split())[:160]}"
            return
        self._starts = [0, *accumulate(counts)]
        largest = max((size / count for size, count in zip(sizes, counts, strict=True) if count), default=1)
        self._rows = max(1, min(_ROWS, int(_BATCH_BYTES / max(1, largest))))

    @property
    def group_starts(self) -> list[int]:
        """The first row of each row group, and the number of rows behind them."""
        return self._starts

    def names(self) -> Iterator[str]:
        """Yield what each row is called, as `Archive.names`."""
        if self.damage:
            return
        if not self._has_paths:
            yield from map(str, range(self._starts[-1]))
            return
        row = 0
        with self._lock:
            batches = self._file.iter_batches(columns=[f"{self._column}.path"], batch_size=4096)
        while True:
            with self._lock:
                batch = next(batches, None)
            if batch is None:
                return
            for entry in batch.column(0).to_pylist():
                yield _row_name(row, entry)
                row += 1

    def read(self, member: str) -> bytes:
        """Return a row's image, as `Archive.read`."""
        number = member.partition("/")[0]
        if self.damage or not number.isdecimal() or not 0 <= int(number) < self._starts[-1]:
            raise ImageError(self.damage or "the Parquet file has no such row")
        row = int(number)
        group = bisect_right(self._starts, row) - 1
        place = row - self._starts[group]
        try:
            batch = self._batch(group, place // self._rows)
            entry = batch.column(0)[place % self._rows]
        except ImageError:
            raise
        except Exception as error:  # pyarrow raises what its decoders raise
            raise ImageError(f"damaged in its Parquet file: {' '.join(str(error).split())[:160]}") from error
        if self._has_paths or hasattr(entry, "keys"):
            fields = dict(entry.items()) if entry.is_valid else {}
            path = fields["path"].as_py() if "path" in fields else None
            if _row_name(row, {"path": path}) != member:
                raise ImageError("the Parquet file has another path in this row")
            entry = fields.get("bytes")
        elif str(row) != member:
            raise ImageError("the Parquet file has no such row")
        if entry is None or not entry.is_valid:
            raise ImageError("the row holds no image's bytes; a path alone is not followed")
        buffer = entry.as_buffer()
        check_size(buffer.size)
        return bytes(buffer)

    def labels(self, column: str) -> Iterator[str]:
        """Yield each row's label; a number by its name, where Hugging Face's description of the columns has names.

        Raises:
            ImageError: There is no such column, or it holds something else; a row without a label.
        """
        schema = self._file.schema_arrow
        if column not in schema.names:
            raise ImageError(f"no column `{column}`")
        types, kind = _load()[0].types, schema.field(column).type
        if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise ImageError(f"the column `{column}` holds {kind}, not numbers or names")
        names = _class_names(schema.metadata or {}, column)
        row = 0
        for batch in self._file.iter_batches(columns=[column], batch_size=4096):
            for value in batch.column(0).to_pylist():
                if value is None or (names and not 0 <= int(value) < len(names)):
                    raise ImageError(f"row {row} has no label" if value is None else f"row {row} has no label {value}")
                yield names[value] if names else str(value).strip()
                row += 1

    def _batch(self, group: int, number: int) -> Any:
        """Return a batch of a group's rows, unpacking up to it."""
        with self._lock:
            if (group, number) in self._kept:
                return self._kept[group, number]
            if self._forward is None or self._forward[0] != group or self._forward[1] > number:
                columns = [f"{self._column}.bytes", f"{self._column}.path"] if self._has_paths else [self._column]
                batches = self._file.iter_batches(batch_size=self._rows, row_groups=[group], columns=columns)
                self._forward = (group, 0, batches)
            _, following, batches = self._forward
            while True:
                batch = next(batches, None)
                if batch is None:
                    self._forward = None
                    raise ImageError("the Parquet file has fewer rows than it says")
                self._kept[group, following] = batch
                following += 1
                self._forward = (group, following, batches)
                while len(self._kept) > 2 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
                if following > number:
                    return batch


def _row_name(row: int, entry: Any) -> str:
    path = entry.get("path") if isinstance(entry, dict) else None
    return f"{row}/{path}" if path else str(row)


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str]:
    """Return the names of a ``ClassLabel`` as `datasets` describes it; none where it does not."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names]


def _choose_column(pyarrow: Any, schema: Any) -> tuple[str, bool]:
    """Return the column of images, and whether it brings paths.

    Raises:
        ValueError: There is none.
    """
    types = pyarrow.types
    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            if field.type.get_field_index("path") >= 0:
                return field.name, True
            return field.name, False
    binary = {field.name for field in schema if types.is_binary(field.type) or types.is_large_binary(field.type)}
    for name in _NAMES:
        if name in binary:
            return name, False
    raise ValueError(f"no column of {{bytes, path}}, and none of bytes called {', '.join(_NAMES)}")


def _load() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("reading .parquet needs the package pyarrow", how_to_install("parquet")) from error
    return pyarrow, parquet
