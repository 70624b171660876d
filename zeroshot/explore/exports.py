"""Exports what the page shows: records, labels, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import numpy as np

from ..errors import InputError
from ..output.render.json_lines import to_json
from ..prompts.labels import LabelSet
from ..prompts.template_sets import DEFAULT
from ..results import Failure, Prediction, Record, significant
from ..scoring import Decision
from .label_text import to_option, to_yaml
from .session import Session, read_templates
from .tab_view import Asked, View

_BLOCK = 2048


def records_of(session: Session, view: View, threshold: float) -> Iterator[Record]:
    """Yield what the page shows, as records: corrections are answers, and what is unknown has none."""
    sorting = view.sorting
    if sorting is None:
        return
    names = [name for name, _ in sorting.classifier.labels.answers]
    unknown = set(sorting.unknown(threshold).ids.tolist())
    for image in np.flatnonzero(view.here).tolist():
        label = None if image in unknown else names[sorting.answer[image]]
        yield Prediction(session.collection.path(image), label, float(sorting.probability[image]), ())
    yield from session.collection.failures


def export_jsonl(session: Session, view: View, threshold: float) -> Iterator[bytes]:
    """Yield the records of a view as `classify` writes them, with corrected labels.

    Raises:
        InputError: There are no labels.
    """
    sorting = view.sorting
    if sorting is None:
        raise InputError("there are no records", "type labels first")

    def lines() -> Iterator[bytes]:
        features = session.collection.features
        effective = records_of(session, view, threshold)
        ids = np.flatnonzero(view.here)
        for start in range(0, len(ids), _BLOCK):
            decided = sorting.classifier.decide(features[ids[start : start + _BLOCK]], Decision(5, threshold))
            block = []
            for (_, top, background), record in zip(decided, effective, strict=False):
                assert isinstance(record, Prediction)
                unknown = record.label is None
                # The page sums its numbers in another order: where `classify` states one, it is that one.
                stated = {ranked.label: ranked.probability for ranked in reversed(top)}
                probability = top[0].probability if unknown else stated.get(str(record.label), record.probability)
                whole = Prediction(record.path, record.label, probability, top, background if unknown else None)
                # A label that was corrected need not be the best one, whose number `to_dict` gives.
                block.append(to_json(whole.to_dict() | {"probability": significant(probability)}) + b"\n")
            yield b"".join(block)
        for record in session.collection.failures:
            yield to_json(Failure(record.path, record.error).to_dict()) + b"\n"

    return lines()


def export_labels(view: View) -> str:
    """Return a view's labels as YAML.

    Raises:
        InputError: There are none.
    """
    if view.sorting is None:
        raise InputError("there are no labels", "type some first")
    return to_yaml(view.sorting.classifier.labels)


def command_line(session: Session, view: View, threshold: float, options: list[str]) -> str:
    """Return the command that classifies the folder as the page does.

    Args:
        session: The folder.
        view: The labels and templates.
        threshold: Below it an image is unknown.
        options: Of the model and of opening images, as this page was started with them.
    """
    if view.sorting is None:
        raise InputError("there are no labels", "type some first")
    words = ["zeroshot", "classify", session.collection.folder]
    if view.learned and session.learned:  # brings its labels and templates
        words += ["--learned", session.learned.source]
    else:
        words += [*_label_words(view.sorting.classifier.labels), *_template_words(view.asked)]
    if view.calibrated:
        words += ["--calibration", str(session.calibration)]
    if threshold or view.calibrated:  # a calibration brings a threshold of its own
        words += ["--threshold", f"{threshold:g}"]
    if session.score:
        words += ["--score", str(session.score)]
    return shlex.join([*words, *options])


def _template_words(asked: Asked) -> list[str]:
    if asked.templates:
        return [word for template in read_templates(asked).templates for word in ("--template", template)]
    return ["--prompts", asked.set_name] if asked.set_name != DEFAULT else []


def _label_words(labels: LabelSet) -> list[str]:
    option = to_option(labels)
    return ["--labels", option] if option is not None else ["--labels-file", "labels.yaml"]
