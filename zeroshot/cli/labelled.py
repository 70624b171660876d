"""What the commands on labelled pictures share: options, and the way from a folder to features."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import ReportFormat
from ..errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..encode import Pipeline
    from ..encoder import Encoder
    from ..evaluate import EncodedDataset

SHOWN_FAILURES = 20
"""Failures named on stderr one by one; the JSON names every one of them."""

Folder = Annotated[
    str | None, typer.Argument(help="A folder with one subfolder a label.", metavar="DIR", show_default=False)
]
Targets = Annotated[
    str | None,
    typer.Option("--targets", help="Instead of a folder: a table with the columns path,label.", metavar="FILE.csv"),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--label-names",
        help="Words for the folders' names: YAML, JSON or lines; or `imagenet` for synset ids.",
        metavar="FILE",
    ),
]
AllLabels = Annotated[
    bool, typer.Option("--all-labels", help="With --label-names: keep the names without a folder as labels.")
]
ReportFormatOption = Annotated[
    ReportFormat | None,
    typer.Option("--format", "-f", help="How to write the result. [default: table on a terminal, else json]"),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides which pictures are held out.")]


def choose_format(asked: ReportFormat | None, output: Path | None) -> ReportFormat:
    """Return the format asked for, else a table on a terminal and JSON anywhere else."""
    return asked or (ReportFormat.TABLE if output is None and sys.stdout.isatty() else ReportFormat.JSON)


def load_dataset(folder: str | None, targets: str | None, label_names: str | None, all_labels: bool) -> Dataset:
    """Find the labelled pictures, and print the mapping from folders to labels and what does not match.

    Raises:
        UsageError: Neither a folder nor a table is given, or both.
    """
    if (folder is None) == (targets is None):
        raise UsageError("give a folder or --targets FILE.csv, one of the two", "zeroshot eval ./val")
    from .. import render_eval
    from ..datasets import load_folder, load_label_names, load_targets

    names = load_label_names(label_names) if label_names else None
    dataset = load_targets(targets, names) if targets else load_folder(folder or "", names, all_labels=all_labels)
    for line in render_eval.mapping_lines(dataset):
        console.say(line)
    for note in dataset.notes:
        console.warn(note)
    return dataset


def encode(encoder: Encoder, dataset: Dataset, pipeline: Pipeline) -> EncodedDataset:
    """Encode the pictures under a progress bar, and name those that cannot be read."""
    from ..evaluate import encode_dataset

    with console.Bar("pictures", len(dataset.paths)) as bar:
        data = encode_dataset(encoder, dataset, pipeline, bar.advance)
    for failure in data.failures[:SHOWN_FAILURES]:
        console.say(f"zeroshot: {failure.path}: {failure.error}")
    if data.failures:
        console.say(
            f"zeroshot: {len(data.failures)} of {len(dataset.paths)} pictures could not be read and count in no metric"
        )
    return data
