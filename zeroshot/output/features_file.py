"""Image features as a file that other programs read: ``.npz`` for numpy, ``.parquet`` for data frames."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..encoder import EncoderSpec, Features
from ..errors import OutputError, UsageError
from ..results import Failure

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Images and their features.

    Attributes:
        paths: The images that could be read.
        features: Unit rows, shape ``(n_images, dim)``.
        failures: Those that could not.
        spec: The model that made the features.
        options: How the images were opened.
    """

    paths: tuple[str, ...]
    features: Features
    failures: tuple[Failure, ...]
    spec: EncoderSpec
    options: dict[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """Return the facts about the model, the options, and the failures, as plain data."""
        facts = asdict(self.spec) | {"fingerprint": self.spec.fingerprint}
        return {
            "format": "zeroshot-features",
            "version": 1,
            "model": facts,
            "options": self.options,
            "failures": [asdict(f) for f in self.failures],
        }


def check_target(path: Path) -> None:
    """Refuse a file name whose ending names no format, before anything is computed.

    Raises:
        UsageError: The ending is unknown.
        OutputError: The format's package is missing.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--output {path}: unknown ending {path.suffix!r}", f"end it in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _pyarrow()


def write_features(table: FeatureTable, stream: BinaryIO, suffix: str) -> None:
    r"""Write a table in the format of a file name's ending.

    In ``.npz`` the arrays are ``paths``, ``features`` and ``manifest`` (JSON text); ``numpy.load`` reads them without
    pickle. In ``.parquet`` the columns are ``path`` and ``features``, and the manifest is in the schema's metadata.
    Bytes of a path that are not UTF-8 are escaped as ``\udcXX``.
    """
    paths = [path.encode("utf-8", "backslashreplace").decode() for path in table.paths]
    manifest = json.dumps(table.manifest()).encode("utf-8", "backslashreplace").decode()
    if suffix == ".npz":
        np.savez(stream, paths=np.asarray(paths, dtype=np.str_), features=table.features, manifest=np.asarray(manifest))
        return
    pyarrow = _pyarrow()
    rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(table.features.reshape(-1)), table.spec.dim)
    columns = pyarrow.table({"path": pyarrow.array(paths), "features": rows})
    from pyarrow import parquet

    parquet.write_table(columns.replace_schema_metadata({"zeroshot": manifest}), stream)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise OutputError("writing .parquet needs the package pyarrow", "pip install pyarrow, or write .npz") from error
    return pyarrow
