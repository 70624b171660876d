"""Shared by the commands on labelled images: options, and encoding a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..enums import ReportFormat
from ..errors import UsageError
from . import console, options

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..evaluation.datasets import Dataset
    from ..evaluation.evaluate import EncodedDataset
    from ..features.pipeline import Pipeline
    from ..prompts.template_sets import TemplateSet

SHOWN_FAILURES = 20
"""Failures named on stderr one by one; the JSON names every one of them."""

Folder = Annotated[
    str | None,
    typer.Argument(help="A folder with one subfolder a label.", metavar="DIR", show_default=False),
    options.Use.READ,
]
Targets = Annotated[
    str | None,
    typer.Option("--targets", help="Instead of a folder: a table with the columns path,label.", metavar="FILE.csv"),
    options.Use.READ,
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--label-names",
        help="Words for the folders' names: YAML, JSON or lines; or `imagenet` for synset ids.",
        metavar="FILE",
    ),
    options.Use.READ,
]
AllLabels = Annotated[
    bool, typer.Option("--all-labels", help="With --label-names: keep the names without a folder as labels.")
]
ReportFormatOption = Annotated[
    ReportFormat | None,
    typer.Option("--format", "-f", help="How to write the result. [default: table on a terminal, else json]"),
]
Split = Annotated[
    str,
    typer.Option("--split", help="Of a data set in CLIP_benchmark's webdataset layout: its subfolder.", metavar="NAME"),
]
SPLIT = "test"
"""The split that is meant unless one is named."""

Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides which images are held out.", metavar="N")]


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """Labelled images as a command reads them.

    Attributes:
        dataset: Paths and labels.
        templates: The data set's own, where it brings some.
        shown: What a file is called, where that is not its path.
        shards: Files that hold the images and their labels, where those are not files themselves.
    """

    dataset: Dataset
    templates: TemplateSet | None
    shown: Mapping[str, str]
    shards: tuple[str, ...] = ()

    @property
    def files_read(self) -> tuple[str, ...]:
        """The files that an output must not replace."""
        return self.shards or self.dataset.paths

    @property
    def public(self) -> bool:
        """Whether this is a public protocol's data set; those leave images as stored, whatever EXIF says."""
        return bool(self.shown)

    @property
    def files(self) -> dict[str, str]:
        """Where an image lies, by the name that it is shown under."""
        return {name: path for path, name in self.shown.items()}


@contextmanager
def open_source(
    folder: str | None, targets: str | None, label_names: str | None, all_labels: bool, split: str
) -> Iterator[LabelledSource]:
    """Find the labelled images, and print the mapping from folders to labels and what does not match.

    Raises:
        UsageError: Neither a folder nor a table is given, or both.
    """
    if (folder is None) == (targets is None):
        raise UsageError(
            "give a folder or --targets FILE.csv, one of the two", "name a folder with one subfolder a label"
        )
    if all_labels and not label_names:
        raise UsageError("--all-labels keeps names of --label-names, which is not given", "--label-names FILE")
    from ..evaluation.datasets import load_folder, load_label_names, load_targets
    from ..evaluation.webdataset import is_webdataset, open_webdataset

    if folder is not None and is_webdataset(folder):
        if label_names:
            raise UsageError(f"{folder} brings its own names", "leave out --label-names")
        with open_webdataset(folder, split) as opened:
            _tell(opened.dataset)
            yield LabelledSource(opened.dataset, opened.templates, opened.shown, opened.files)
        return
    if split != SPLIT:
        raise UsageError(
            f"--split {split}: {folder or targets} is not in CLIP_benchmark's webdataset layout, which has splits",
            "leave out --split",
        )
    names = load_label_names(label_names) if label_names else None
    dataset = load_targets(targets, names) if targets else load_folder(folder or "", names, all_labels=all_labels)
    _tell(dataset)
    yield LabelledSource(dataset, None, {})


def _tell(dataset: Dataset) -> None:
    from ..output.render import evaluation as render_eval

    for line in render_eval.mapping_lines(dataset):
        console.say(line)
    for note in dataset.notes:
        console.warn(note)


def encode(encoder: Encoder, source: LabelledSource, pipeline: Pipeline) -> EncodedDataset:
    """Encode the images under a progress bar, and name those that cannot be read."""
    from ..evaluation.evaluate import encode_dataset

    total = len(source.dataset.paths)
    with console.Bar("images", total) as bar:
        data = encode_dataset(encoder, source.dataset, pipeline, bar.advance).rename(source.shown)
    for failure in data.failures[:SHOWN_FAILURES]:
        console.say(f"zeroshot: {failure.path}: {failure.error}")
    if data.failures:
        console.say(f"zeroshot: {len(data.failures)} of {total} images could not be read and count in no metric")
    return data
