"""The labels and templates that commands take, from whichever options give them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LabelError, PromptError, UsageError
from . import options

if TYPE_CHECKING:
    from ..evaluation.learned_file import LearnedFile
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet


def read_learned(path: Path | None) -> LearnedFile | None:
    """Read learned weights, if there are some, before a model is loaded.

    Raises:
        InputError: They cannot be used.
    """
    if path is None:
        return None
    from ..evaluation.learned_file import load_learned

    return load_learned(path)


def read_labels(labels: Sequence[str] | None, labels_file: str | None, learned: LearnedFile | None = None) -> LabelSet:
    """Read the labels from whichever option gave them; those that were learned where none did.

    Args:
        labels: As typed, each separated by commas.
        labels_file: The file that holds them.
        learned: Learned weights, which hold their labels.

    Raises:
        UsageError: None or both did, or the labels typed cannot be used.
    """
    from ..prompts.labels import IMAGENET, load_labels, parse_labels

    if labels and labels_file is not None:
        raise UsageError("both --labels and --labels-file are given", "put all labels in the file")
    if not labels and labels_file is None and learned:
        return learned.labels
    if not labels and labels_file is None:
        raise UsageError("no labels", "--labels cat,dog or --labels-file FILE")
    if not labels:
        if Path(labels_file or "").suffix.lower() in (".csv", ".tsv"):
            raise UsageError(
                f"--labels-file {labels_file} is a table, not a list of labels", "give a file with one label per line"
            )
        return load_labels(labels_file or "")
    for given in labels:
        if given == IMAGENET or (Path(given).suffix and os.path.isfile(given)):  # noqa: PTH113 - False for any other text
            raise UsageError(f"--labels {given}: this names a list of labels, not a label", f"--labels-file {given}")
    try:
        return parse_labels(*labels)
    except LabelError as error:  # typed, not read from a file
        raise UsageError(error.message, error.hint) from error


def read_templates(prompts: str | None, template: list[str] | None, learned: LearnedFile | None = None) -> TemplateSet:
    """Read the template set from whichever option gave it; where none did, that of learned weights, or ``general``.

    Raises:
        UsageError: Both did, or a template typed cannot be used.
    """
    from ..prompts.template_sets import DEFAULT, from_templates, load_templates

    if prompts and template:
        raise UsageError(
            "both --prompts and --template are given", "put the templates into a YAML set, or use one of the two"
        )
    if not template:
        return learned.templates if learned and not prompts else load_templates(prompts or DEFAULT)
    try:
        return from_templates(template)
    except PromptError as error:
        raise UsageError(error.message, error.hint) from error


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """The labels to choose among, and the templates that they are put into."""

    labels: options.Labels = None
    labels_file: options.LabelsFile = None
    prompts: options.Prompts = None
    template: options.Template = None

    def read(self) -> tuple[LabelSet, TemplateSet]:
        """Read both.

        Raises:
            LabelError: The labels cannot be used.
            PromptError: The templates cannot be used.
            UsageError: There are no labels, or the options contradict each other.
        """
        return read_labels(self.labels, self.labels_file), read_templates(self.prompts, self.template)


@dataclass(frozen=True, slots=True)
class LearnedLabelOptions(LabelOptions):
    """Labels and templates, or the weights that were learned for some, which bring both."""

    learned: options.Learned = None

    def read_all(self) -> tuple[LabelSet, TemplateSet, LearnedFile | None]:
        """Read labels and templates, and the learned weights, if there are some.

        Raises:
            InputError: The learned weights cannot be used.
            LabelError: The labels cannot be used.
            PromptError: The templates cannot be used.
            UsageError: There are no labels, or the options contradict each other.
        """
        learned = read_learned(self.learned)
        labels = read_labels(self.labels, self.labels_file, learned)
        return labels, read_templates(self.prompts, self.template, learned), learned
