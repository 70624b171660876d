"""``sort --from FILE``: images are chosen and sorted by the labels of a results file, and no model is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..results import Failure, Ranked, Record
from . import console
from .input_options import InputOptions

APPLIED = frozenset(
    (
        *("into", "from_", "copy", "move", "dry_run", "format_", "threshold"),
        *("exclude", "limit", "sample", "sample_seed", "allow_private_hosts"),
    )
)
"""Parameters of `sort` that say something about images with known labels; every other one is refused."""


def refuse_unused(given: Mapping[str, Any], groups: Sequence[Any]) -> None:
    """Refuse options that say something to a model or to a search for images, of which there is neither.

    Args:
        given: Options by their parameters' names; None where one was not given.
        groups: Groups of options.

    Raises:
        UsageError: An option is given that --from would ignore.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for group in groups:
        for field in fields(group):
            value = getattr(group, field.name)
            if value and value != field.default:
                values[field.name] = value
    for name in sorted(values.keys() - APPLIED):
        if name == "paths":
            raise UsageError("--from says which images there are, and images are named too", "leave out the images")
        option = f"--{name.replace('_', '-')}"
        raise UsageError(f"{option} says nothing with --from: images and labels come from the file", "leave it out")


def read_reviewed(file: Path, threshold: float, inputs: InputOptions) -> list[Record]:
    """Read a results file; labels measured below the threshold are unknown, as if just found; those set by hand stay.

    Args:
        file: The results.
        threshold: In [0, 1].
        inputs: Which of the images are taken.
    """
    from ..images.sources.image_names import container, scheme_of
    from ..output.read_records import read_records

    inputs.check_choice()
    records, notes = read_records(file)
    for note in notes:
        console.note(f"{file}: {note}")
    if not records:
        console.warn(f"{file} holds no records")
    elif not any(scheme_of(record.path) or os.path.lexists(container(record.path)) for record in records):
        console.warn(f"no image of {file} is there: its paths count from the folder where `classify` ran")
    return [
        _judge(record, threshold) for record in inputs.choose(iter(records), lambda record: (record.path, record.path))
    ]


def _judge(record: Record, threshold: float) -> Record:
    if isinstance(record, Failure) or record.label is None or not record.probability < threshold:
        return record
    return replace(record, label=None, top=(Ranked(record.label, record.probability, math.nan, math.nan),))
