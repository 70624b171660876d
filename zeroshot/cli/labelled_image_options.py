"""Options that name labelled images, and the way from these to features; shared by `eval`, `calibrate` and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, LabelError, UsageError
from . import console, options

if TYPE_CHECKING:
    from ..distribute.finished_features import StoredFeatures
    from ..encoder import Encoder
    from ..evaluation.evaluate import EncodedDataset
    from ..evaluation.labelled_folders import Dataset
    from ..evaluation.learned_file import LearnedFile
    from ..features.pipeline import Pipeline
    from ..prompts.template_sets import TemplateSet

SPLIT = "test"
"""The split that is meant unless one is named."""

Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        help="Random seed: decides which images are held out, or how they are divided into folds.",
        metavar="N",
        rich_help_panel=options.Panel.ADVANCED,
    ),
]


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Labelled images as a command reads them.

    Attributes:
        dataset: Paths and labels.
        templates: The data set's own, where it brings some.
        shown: What a file is called, where that is not its path.
        shards: Files that hold the images and their labels, where those are not files themselves.
        stored: What a finished run holds of the images; None where they are read.
    """

    dataset: Dataset
    templates: TemplateSet | None
    shown: Mapping[str, str]
    shards: tuple[str, ...] = ()
    stored: StoredFeatures | None = None

    @property
    def public(self) -> bool:
        """Whether this is a public protocol's data set; those leave images as stored, whatever EXIF says."""
        return bool(self.shown)

    @property
    def files(self) -> dict[str, str]:
        """Where an image lies, by the name that it is shown under."""
        return {name: path for path, name in self.shown.items()}

    def check_apart(self, **outputs: Path | None) -> None:
        """Refuse an output that cannot be written, or that would replace one of these images.

        Raises:
            OutputError: Names the option and the file.
        """
        from ..output.destination import check_apart, check_output

        check_apart({f"--{name}": target for name, target in outputs.items()}, self.shards or self.dataset.paths)
        for target in outputs.values():
            check_output(target)


@dataclass(frozen=True, slots=True)
class LabelledOptions:
    """Where labelled images are, and what their labels are called."""

    folder: Annotated[
        str | None,
        typer.Argument(
            help="A folder with one subfolder per label, such an archive or prefix of a store, or a run.",
            metavar="DIR",
            show_default=False,
        ),
        options.Use.READ,
    ] = None
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            help="Instead of a folder: a table with the columns path,label; with --multi-label `cat;dog`.",
            metavar="FILE.csv",
            rich_help_panel=options.Panel.INPUTS,
        ),
        options.Use.READ,
    ] = None
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="Of a data set in CLIP_benchmark's webdataset layout: its subfolder.",
            metavar="NAME",
            rich_help_panel=options.Panel.INPUTS,
        ),
    ] = SPLIT
    label_names: Annotated[
        str | None,
        typer.Option(
            "--label-names",
            help="Words for the folders' names: YAML, JSON or lines; or `imagenet` for synset ids.",
            metavar="FILE",
            rich_help_panel=options.Panel.LABELS,
        ),
        options.Use.READ,
    ] = None
    all_labels: Annotated[
        bool,
        typer.Option(
            "--all-labels",
            help="Keep names of --label-names without a folder, and folders without images, as labels.",
            rich_help_panel=options.Panel.LABELS,
        ),
    ] = False

    @property
    def named(self) -> str | None:
        """The folder or the table, as it was given."""
        return self.folder or self.targets

    @contextmanager
    def open(self, *, several: bool = False) -> Iterator[LabelledImages]:
        """Find the labelled images, and print the mapping from folders to labels and what does not match.

        Args:
            several: An image may have several labels.

        Raises:
            InputError: They cannot be read.
            UsageError: Neither a folder nor a table is given, or both.
        """
        stored = self._open_run()
        if not stored and (self.folder is None) == (self.targets is None):
            raise UsageError(
                "give a folder or --targets FILE.csv, one of the two", "name a folder with one subfolder per label"
            )
        if self.all_labels and (self.targets or stored) and not self.label_names:
            raise UsageError("--all-labels keeps names of --label-names, which is not given", "--label-names FILE")
        from ..evaluation.clip_benchmark import is_webdataset, open_webdataset
        from ..evaluation.label_names import load_label_names
        from ..evaluation.labelled_archives import is_source, load_source
        from ..evaluation.labelled_folders import as_several, group_by_folder, load_folder
        from ..evaluation.labelled_tables import load_several_targets, load_targets

        if self.folder is not None and is_webdataset(self.folder):
            if self.label_names:
                raise UsageError(f"{self.folder} brings its own names", "leave out --label-names")
            with open_webdataset(self.folder, self.split) as opened:
                dataset = as_several(opened.dataset) if several else opened.dataset
                _tell(dataset)
                yield LabelledImages(dataset, opened.templates, opened.shown, opened.files)
            return
        if self.split != SPLIT:
            raise UsageError(
                f"--split {self.split}: {self.named} is not in CLIP_benchmark's webdataset layout, which has splits",
                "leave out --split",
            )
        in_source = self.folder is not None and not stored and is_source(self.folder) and not Path(self.folder).is_dir()
        names = load_label_names(self.label_names) if self.label_names else None
        if self.targets:
            load = load_several_targets if several else load_targets
            dataset = load(self.targets, names, all_labels=self.all_labels)
        elif stored:
            dataset = group_by_folder(stored.images(), names, all_labels=self.all_labels)
            dataset = as_several(dataset) if several else dataset
        else:
            folder = self.folder or ""
            load_images = load_source if in_source else load_folder
            dataset = load_images(folder, names, all_labels=self.all_labels)
            dataset = as_several(dataset) if several else dataset
        _tell(dataset)
        yield LabelledImages(dataset, None, {}, (self.folder,) if self.folder and in_source else (), stored)

    def _open_run(self) -> StoredFeatures | None:
        """Return the features of a finished run that is named instead of a folder; None where it is none."""
        if self.folder is None:
            return None
        from ..distribute.finished_features import find_stored

        return find_stored(self.folder)


def with_learned_labels(source: LabelledImages, learned: LearnedFile | None) -> LabelledImages:
    """Return the images with the labels of learned weights, where there are some, matched by name.

    Raises:
        InputError: An image has a label that was not learned.
    """
    if learned is None:
        return source
    from ..evaluation.labelled_folders import match_labels

    try:
        dataset = match_labels(source.dataset, learned.labels, learned.source, learned.keys)
    except LabelError as error:
        raise InputError(
            f"{learned.source} was learned for other labels: {error.message}", "run `zeroshot learn` for these labels"
        ) from error
    for note in dataset.notes[len(source.dataset.notes) :]:
        console.warn(note)
    return replace(source, dataset=dataset)


def warn_of_examples(data: EncodedDataset, learned: LearnedFile | None) -> None:
    """Say how many of the images were learned from: results on them are too good."""
    if learned and (count := learned.count_examples(data.features)):
        console.warn(
            f"{count} of the {len(data.paths)} images are examples that {learned.source} was learned from, which"
            " makes the results too good; evaluate on other images"
        )


def _tell(dataset: Dataset) -> None:
    from ..output.render import evaluation as render_eval

    for line in render_eval.mapping_lines(dataset):
        console.say(line)
    for note in dataset.notes:
        console.warn(note)


def encode(encoder: Encoder, source: LabelledImages, pipeline: Pipeline) -> EncodedDataset:
    """Encode the images under a progress bar, and name those that cannot be read."""
    from ..evaluation.evaluate import encode_dataset

    total = len(source.dataset.paths)
    if source.stored:
        source.stored.check(encoder.spec)
        source.stored.check_options(pipeline.decode_options)
        pipeline = replace(pipeline, cache=None, isolation=None, stored=source.stored.everything())
    with console.Bar("images", total) as bar:
        data = encode_dataset(encoder, source.dataset, pipeline, bar.advance).rename(source.shown)
    console.say_few(f"{failure.path}: {failure.error}" for failure in data.failures)
    if data.failures:
        console.say(f"zeroshot: {len(data.failures)} of {total} images could not be read and count in no metric")
    return data
