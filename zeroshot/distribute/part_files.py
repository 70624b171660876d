"""Parts of a run as files: records as JSON lines with features beside them, or both in one Parquet file."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..encoder import Features
from ..errors import OutputError
from ..system.installed import how_to_install
from .recipe import RunRecipe


def build(number: int, lines: bytes, features: Features | None, recipe: RunRecipe) -> tuple[tuple[str, bytes], ...]:
    """Return the files of a shard, records first: the name of each, which has its content's hash, and the content.

    Args:
        number: The shard's.
        lines: Its records as JSON lines.
        features: Rows of the images that could be read, shape ``(n, dim)``; None where they are not kept.
        recipe: Of the run.
    """
    if recipe.parquet:
        return (_named("part", number, "parquet", _to_parquet(lines.splitlines(keepends=True), features)),)
    records = _named("part", number, "jsonl", lines)
    if features is None:
        return (records,)
    stream = io.BytesIO()
    np.save(stream, features, allow_pickle=False)
    return records, _named("features", number, "npy", stream.getvalue())


def _named(kind: str, number: int, ending: str, content: bytes) -> tuple[str, bytes]:
    return f"parts/{kind}-{number:05d}-{hashlib.sha256(content).hexdigest()[:16]}.{ending}", content


def lines_of(name: str, content: bytes) -> list[bytes]:
    """Return the records of a part as JSON lines.

    Raises:
        ValueError: It is damaged.
    """
    if not name.endswith(".parquet"):
        lines = content.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            raise ValueError("its last line is cut off")
        return lines
    return [bytes(line) for line in _read_parquet(content, ["record"]).column("record").to_pylist()]


def read_features(name: str, content: bytes) -> Features:
    """Return the rows of a part, shape ``(n, dim)``.

    Raises:
        ValueError: It is damaged, or holds none.
    """
    if name.endswith(".npy"):
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), dtype=np.float32)
    column = _read_parquet(content, ["features"]).column("features").combine_chunks().drop_null()
    dim = column.type.list_size
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, dim)


def paths_of(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    """Yield each record's path, and the reason of a failure or nothing."""
    for line in lines:
        record = json.loads(line)
        yield record["path"], record.get("error", "")


def count_failures(lines: list[bytes]) -> int:
    """Count the records of images that could not be read."""
    return sum(b'"error"' in line and "error" in json.loads(line) for line in lines)


def _to_parquet(lines: list[bytes], features: Features | None) -> bytes:
    pyarrow, parquet = _pyarrow()
    records = [json.loads(line) for line in lines]
    columns: dict[str, Any] = {
        "path": pyarrow.array([_text(record["path"]) for record in records], pyarrow.string()),
        "label": pyarrow.array([record.get("label") for record in records], pyarrow.string()),
        "probability": pyarrow.array([record.get("probability") for record in records], pyarrow.float64()),
        "error": pyarrow.array([record.get("error") for record in records], pyarrow.string()),
        "record": pyarrow.array(lines, pyarrow.binary()),
    }
    if features is not None:
        read = np.asarray(["error" not in record for record in records], dtype=bool)
        rows = np.zeros((len(records), features.shape[1]), dtype=np.float32)
        rows[read] = features
        columns["features"] = pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(rows.reshape(-1)), features.shape[1], mask=pyarrow.array(~read)
        )
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream, compression="zstd")
    return stream.getvalue()


def _text(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _read_parquet(content: bytes, columns: list[str]) -> Any:
    pyarrow, parquet = _pyarrow()
    try:
        return parquet.read_table(io.BytesIO(content), columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError("it is not a complete Parquet file") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise OutputError(
            "parts as .parquet need the package pyarrow",
            f"{how_to_install('parquet')}, or plan the run with --parts jsonl",
        ) from error
    return pyarrow, parquet
