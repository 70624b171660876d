"""One call each for what programs want: classify images, sort them into folders by the answers, take that back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .classifier import build_classifier, build_records
from .encoder import Encoder
from .engines.choose import load_encoder
from .enums import Placement, Score
from .errors import UsageError, nearest
from .evaluation.calibration_file import load_calibration
from .evaluation.evaluate import evaluate
from .features.encode_inputs import ImageLike, encode_images
from .features.pipeline import Pipeline
from .prompts.labels import Label, LabelSet, as_labels
from .prompts.template_sets import DEFAULT, TemplateSet, as_templates
from .results import Record
from .scoring import Decision
from .search import search
from .sort.journal import Journal, find_journals, find_open_journals
from .sort.names import folder_names
from .sort.plan import Stay, Step, make_plan
from .sort.run_plan import Outcome, Undone, carry_out, is_stuck, settle_earlier, undo

# Under `zeroshot` their names have to say what is evaluated and searched; `zeroshot.search` is a module.
evaluate_dataset = evaluate
search_images = search


@dataclass(frozen=True, slots=True)
class Sorted:
    """The outcome of sorting.

    Attributes:
        outcomes: What was done for each image that was to go somewhere; ``reason`` says why one was not placed.
        stays: Images that stay where they are, and why.
        journal: The file with which `undo_sort` takes everything back; None where nothing was to be done.
    """

    outcomes: tuple[Outcome, ...]
    stays: tuple[Stay, ...]
    journal: Path | None


def classify(
    images: ImageLike | Iterable[ImageLike],
    labels: LabelSet | str | Iterable[str | Label],
    model: str | Encoder | None = None,
    *,
    templates: TemplateSet | str | Sequence[str] = DEFAULT,
    score: Score | None = None,
    calibration: str | os.PathLike[str] | None = None,
    decision: Decision = Decision(),
    pipeline: Pipeline = Pipeline(),
) -> list[Record]:
    """Return one record per image, in order.

    Args:
        images: Paths of files or folders, encoded bytes, PIL images or arrays ``(height, width, 3)``; one or several.
        labels: A list of names, ``"cat,dog"``, or a set of labels.
        model: As for `load_encoder`, or a loaded encoder, which saves loading it for each call.
        templates: The name of a template set, a YAML file, or sentences with one ``{}`` each.
        score: How logits become probabilities; None for softmax.
        calibration: A file that ``zeroshot calibrate`` wrote; its threshold applies where ``decision`` has none.
        decision: How many labels a record lists, and the threshold for "unknown".
        pipeline: How images are read and batched.

    Raises:
        ZeroshotError: Labels, templates, model or an image's shape cannot be used. An image that cannot be read is
            a record with an ``error`` instead.
    """
    label_set, template_set = as_labels(labels), as_templates(templates)
    encoder = load_encoder(model) if model is None or isinstance(model, str) else model
    classifier = build_classifier(encoder, label_set, template_set, score, pipeline.cache)
    if calibration is not None:
        fitted = load_calibration(os.fspath(calibration), encoder.spec, classifier)
        classifier = fitted.apply(classifier)
        decision = Decision(decision.top_k, decision.threshold or fitted.threshold or 0.0)
    batches = encode_images(encoder, images, pipeline)
    return [record for batch in batches for record in build_records(classifier, batch, decision)]


def sort_images(
    records: Iterable[Record], into: str | os.PathLike[str], placement: Placement | str = Placement.LINK
) -> Sorted:
    """Bring each image into a folder of its label, with a journal that `undo_sort` reads. Nothing is overwritten.

    Args:
        records: From `classify`, of files; those without a label go to ``_review``, failures stay.
        into: The folder to sort into; it is made if need be.
        placement: ``link``, ``copy`` or ``move``.

    Raises:
        OutputError: The journal cannot be written.
        UsageError: There is no such placement.
    """
    if placement not in list(Placement):
        raise UsageError(f"no placement {str(placement)!r}{nearest(str(placement), Placement)}", ", ".join(Placement))
    how = Placement(placement)
    records, target = list(records), Path(into).expanduser().resolve()
    folders = folder_names(dict.fromkeys(record.label for record in records if record.label is not None))
    if target.exists():
        settle_earlier(target)
    plan = list(make_plan(records, target, folders, how))
    stays = tuple(item for item in plan if isinstance(item, Stay))
    steps = [item for item in plan if isinstance(item, Step)]
    if not steps:
        return Sorted((), stays, None)
    with Journal.create(target) as journal:
        return Sorted(tuple(carry_out(steps, journal)), stays, journal.path)


def undo_sort(journal: str | os.PathLike[str]) -> list[Undone]:
    """Take back what a sort did, last step first; ``reason`` says why a step could not be.

    Args:
        journal: Of the sort; or the folder that was sorted into, for its last one, or the one before where an earlier
            call took back what could be.

    Raises:
        InputError: It is not a journal, or another process uses it.
    """
    place = Path(journal)
    runs = (find_open_journals(place) or [*find_journals(place)][-1:]) if place.is_dir() else []
    done: list[Undone] = []
    for run in runs or [place]:
        with Journal.open(run) as opened:
            stuck = is_stuck(opened)
            done = list(undo(opened))
        if not stuck or not all(outcome.reason for outcome in done):
            break
    return done
