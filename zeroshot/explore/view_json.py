"""Turns a view into the plain data that the page shows: counts, windows of rows, one image whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.statistics import wilson
from ..messages import printable
from ..prompts.template_sets import prompts_for
from .collection import absolute, shown_name
from .label_scores import Floats
from .ranked_rows import Sorting
from .security import Token
from .session import Session
from .tab_view import View

MOST_ITEMS = 600
"""Images of one window; a page shows at most some hundreds at once."""

MOST_DOTS = 200_000
"""Images on a map: a window has no more dots that can be told apart."""

_NO_ANSWER, _GONE = 65_535, 65_534
_MOST_PROMPTS = 12


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a row that the page wants to show.

    Attributes:
        row: The row's name, see `View.row`.
        start: The first image, from 0.
        count: How many, at most.
    """

    row: str
    start: int
    count: int


def describe(view: View, threshold: float) -> dict[str, Any]:
    """Return what the page shows of a view beside its images."""
    shown: dict[str, Any] = {
        "view": view.key,
        "images": view.count,
        "notes": list(view.notes),
        "calibrated": view.calibrated,
    }
    sorting = view.sorting
    if sorting is None:
        return shown | {"all": len(view.hits) if view.hits else 0}
    counts = sorting.counts(threshold)
    labels = sorting.classifier.labels
    precision = sorting.expected_precision(threshold) if view.calibrated else None
    return shown | {
        "answers": [name for name, _ in labels.answers],
        "counts": counts,
        "unknown": view.count - sum(counts),
        "warnings": list(sorting.classifier.warnings),
        "pairs": [[pair.first, pair.second, pair.count] for pair in sorting.pairs()],
        "histogram": sorting.histogram(),
        "precision": precision,
        "accuracy": _accuracy(sorting.right(), threshold),
    }


def _accuracy(said: Sequence[tuple[bool, float]], threshold: float) -> dict[str, Any] | None:
    if not said:
        return None
    estimate = wilson(sum(right for right, _ in said), len(said))
    reached = [right for right, probability in said if probability >= threshold]
    answered = wilson(sum(reached), len(reached))
    return {
        "right": sum(right for right, _ in said),
        "of": len(said),
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "answered": [sum(reached), len(reached), answered.value, answered.low, answered.high],
    }


def windows(
    session: Session, token: Token, view: View, sorting: Sorting | None, threshold: float, wanted: Sequence[Window]
) -> list[dict[str, Any]]:
    """Return parts of rows: for each image its id, number, signature, name, answer and mark.

    Args:
        session: The images.
        token: Signs their addresses.
        view: What the rows are of.
        sorting: What answers are looked up in.
        threshold: Least probability or cosine.
        wanted: The parts; those of rows that are not there are left out.
    """
    found = []
    left = MOST_ITEMS
    for window in wanted:
        try:
            ranking = view.row(window.row, threshold)
        except LookupError:
            continue
        start = max(0, window.start)
        end = min(len(ranking), start + max(0, min(window.count, left)))
        left -= max(0, end - start)
        items = [
            _item(session, token, sorting, int(image), float(value))
            for image, value in zip(ranking.ids[start:end], ranking.values[start:end], strict=True)
        ]
        found.append({"row": window.row, "start": start, "total": len(ranking), "items": items})
    return found


def map_points(view: View, threshold: float, placed: Floats) -> bytes:
    """Return places and answers of images as 16-bit numbers, little-endian: x, then y, then answers.

    An image whose file is gone has an answer of its own, so that the others' places among them are their ids.

    Args:
        view: What the answers are of.
        threshold: Below it there is none.
        placed: Shape ``(n, 2)``, from 0 to 1.
    """
    answers = np.full(len(placed), _NO_ANSWER, dtype=np.int64)
    if view.sorting is not None:
        answers = view.sorting.answer[: len(placed)].astype(np.int64)
        unknown = view.sorting.unknown(threshold).ids
        answers[unknown[unknown < len(placed)]] = _NO_ANSWER
    answers[~view.here[: len(placed)]] = _GONE
    columns = np.concatenate([np.round(placed.T * 65_535), answers[None]])
    return bytes(np.minimum(columns, _NO_ANSWER).astype("<u2").tobytes())


def signed(session: Session, token: Token, image: int) -> list[Any]:
    """Return an image's id, the signature of its small image, and its name."""
    name = printable(shown_name(session.collection.path(image)))
    return [image, token.sign(f"thumb/{image}"), name]


def _item(session: Session, token: Token, sorting: Sorting | None, image: int, value: float) -> list[Any]:
    path = session.collection.path(image)
    answer, mark = -1, 0
    if sorting is not None and image < len(sorting):
        answer = int(sorting.answer[image])
        answer = -1 if answer == sorting.n_answers else answer
        mark = 1 if image in sorting.marks.labels else 2 if image in sorting.marks.refused else 0
    return [image, round(value, 4), token.sign(f"thumb/{image}"), printable(shown_name(path)), answer, mark]


def describe_image(
    session: Session, token: Token, view: View, threshold: float, image: int, facts: dict[str, str]
) -> dict[str, Any]:
    """Return one image whole: path, numbers for every answer, the prompts behind the best, what its file says.

    Raises:
        IndexError: There is no such image.
    """
    path = session.collection.path(image)
    said = session.corrections.of(absolute(path))
    shown: dict[str, Any] = {
        "id": image,
        "path": printable(path),
        "name": printable(shown_name(path)),
        "large": f"/large/{image}?s={token.sign(f'large/{image}')}",
        "facts": facts,
        "label": said.label,
        "refused": list(said.refused),
    }
    sorting = view.sorting
    if sorting is None or image >= view.n:
        return shown
    classifier = sorting.classifier
    scores = classifier.scores(session.collection.features[image : image + 1])
    answers = classifier.answers(scores)
    names = [name for name, _ in classifier.labels.answers]
    order = sorted(range(len(names)), key=lambda i: (-answers.probabilities[0, i], -answers.logits[0, i]))
    top = [
        [names[i], float(answers.probabilities[0, i]), float(answers.similarities[0, i]), float(answers.logits[0, i])]
        for i in order[:20]
    ]
    background = [
        [label.name, float(scores.probabilities[0, i]), float(scores.similarities[0, i]), float(scores.logits[0, i])]
        for i, label in enumerate(classifier.labels.labels)
        if label.background
    ]
    row = sorting.shown(image, threshold)
    members = classifier.labels.answers[order[0]][1]
    prompts = [prompt for i in members for prompt in prompts_for(classifier.labels.labels[i], classifier.templates)]
    more = len(prompts) - _MOST_PROMPTS
    return shown | {
        "row": None if row is None else [names[row], float(sorting.probability[image])],
        "top": top,
        "labels": len(names),
        "background": background,
        "prompts": prompts[:_MOST_PROMPTS] + ([f"... and {more} more"] if more > 0 else []),
        "prompts_of": names[order[0]],
    }
