"""What several commands read before their work begins: labels, templates, paths; and how they name failures."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..enums import Score
from ..errors import ExitCode, InputError, LabelError, PromptError, UsageError
from . import console

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..encoder import Encoder
    from ..features.cache import FeatureCache
    from ..prompts.labels import LabelSet
    from ..prompts.template_sets import TemplateSet
    from ..results import Failure

SHOWN_FAILURES = 20
"""Failures named on stderr one by one; the records name every one of them."""


def read_labels(labels: str | None, labels_file: str | None) -> LabelSet:
    """Read the labels from whichever option gave them.

    Raises:
        UsageError: None or both did, or the labels typed cannot be used.
    """
    from ..prompts.labels import load_labels, parse_labels

    if labels is not None and labels_file is not None:
        raise UsageError("both --labels and --labels-file are given", "put all labels in the file")
    if labels is None and labels_file is None:
        raise UsageError("no labels", "--labels cat,dog or --labels-file FILE")
    if labels is None:
        return load_labels(labels_file or "")
    try:
        return parse_labels(labels)
    except LabelError as error:  # typed, not read from a file
        raise UsageError(error.message, error.hint) from error


def read_templates(prompts: str | None, template: list[str] | None) -> TemplateSet:
    """Read the template set from whichever option gave it; ``general`` where none did.

    Raises:
        UsageError: Both did, or a template typed cannot be used.
    """
    from ..prompts.template_sets import DEFAULT, from_templates, load_templates

    if prompts and template:
        raise UsageError(
            "both --prompts and --template are given", "put the templates into a YAML set, or use one of the two"
        )
    if not template:
        return load_templates(prompts or DEFAULT)
    try:
        return from_templates(template)
    except PromptError as error:
        raise UsageError(error.message, error.hint) from error


def prepare_classifier(
    encoder: Encoder,
    labels: LabelSet,
    templates: TemplateSet,
    score: Score | None,
    cache: FeatureCache | None = None,
) -> Classifier:
    """Build the classifier and tell what a person should know of it."""
    from ..classifier import build_classifier

    classifier = build_classifier(encoder, labels, templates, score, cache)
    for warning in classifier.warnings:
        console.warn(warning)
    return classifier


def check_readable(path: str | Path | None, hint: str) -> None:
    """Refuse a file that is read only once the model is loaded, and cannot be.

    Raises:
        InputError: It cannot be opened.
    """
    try:
        if path is not None and not _is_pipe(path):
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", hint) from error


def _is_pipe(path: str | Path) -> bool:
    """Whether it is a pipe or the like, which can be opened once."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113


def check_sources(inputs: list[str], files_from: str | None, nul: bool) -> None:
    """Refuse inputs that cannot be used before the model is loaded."""
    from ..images.paths import STDIN, check_inputs

    if not inputs and not files_from:
        raise UsageError("no pictures", "name files or folders, `-` for paths on stdin, or --files-from FILE")
    if inputs.count(STDIN) + (files_from == STDIN) > 1:
        raise UsageError("stdin is named twice", "name `-` once")
    if nul and not files_from and STDIN not in inputs:
        raise UsageError(
            "--from0 says how a list of paths is read, and there is no list", "name `-` for paths on stdin"
        )
    for note in check_inputs([path for path in inputs if path != STDIN]):
        console.warn(note)
    if files_from and files_from != STDIN and not _is_pipe(files_from):
        from ..images.paths import open_list

        open_list(files_from).close()


def find_inputs(inputs: list[str], files_from: str | None, nul: bool) -> Iterator[str]:
    """Yield the path of every picture, in the order of the command line."""
    from ..images.paths import STDIN, find_images, open_list, read_list

    for given in inputs:
        yield from find_images(read_list(open_list(STDIN), nul=nul) if given == STDIN else [given])
    if files_from:
        with open_list(files_from) as stream:
            yield from find_images(read_list(stream, nul=nul))


def count_ahead(bar: console.Bar, inputs: list[str], files_from: str | None, nul: bool) -> None:
    """Count the inputs beside the run, so that the bar can tell the time left; a stream cannot be counted."""
    from ..images.paths import STDIN

    if not sys.stderr.isatty() or STDIN in inputs or (files_from and not Path(files_from).is_file()):
        return
    threading.Thread(
        target=lambda: bar.expect(sum(1 for _ in find_inputs(inputs, files_from, nul))), daemon=True
    ).start()


def name_failures(failures: Sequence[Failure], total: int) -> ExitCode:
    """Name the pictures that could not be read, the first ones of many, and return the exit code for them."""
    for failure in failures[:SHOWN_FAILURES]:
        console.say(f"zeroshot: {failure.path}: {failure.error}")
    if len(failures) > SHOWN_FAILURES:
        console.say(f"zeroshot: ... and {len(failures) - SHOWN_FAILURES} more")
    if failures:
        console.say(f"zeroshot: {len(failures)} of {total} inputs could not be read")
    return ExitCode.INCOMPLETE if failures else ExitCode.OK
