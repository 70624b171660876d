"""How template sets answer on images without labels, as text for users and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from ...encoder import EncoderSpec
from ...evaluation.template_agreement import SetScore
from ...messages import printable
from ...prompts.labels import LabelSet
from ...results import Failure, significant
from .evaluation import percent

PROMPT_CHECK_FORMAT = "zeroshot-prompt-check"
JSON_VERSION = 1
_COLUMNS = 60
_LONGEST_NAME = 20
_NUMBERS = ("agreement", "margin", "entropy")


def to_document(
    scores: Sequence[SetScore],
    n_images: int,
    labels: LabelSet,
    spec: EncoderSpec,
    options: dict[str, Any],
    failures: Sequence[Failure],
) -> dict[str, Any]:
    """Return the sets, in the order of the table, with what decided their numbers, as plain data.

    Args:
        scores: Of the sets, and of random words beside them.
        n_images: How many images could be read.
        labels: What was asked about.
        spec: The model.
        options: The folder, and how its images were opened.
        failures: Images that could not be read.
    """
    sets, random = _split(scores)
    return {
        "format": PROMPT_CHECK_FORMAT,
        "version": JSON_VERSION,
        "labels": labels.manifest(),
        "model": asdict(spec) | {"fingerprint": spec.fingerprint},
        "options": options,
        "images": n_images,
        "failures": [asdict(failure) for failure in failures],
        "sets": [_numbers(score) | {"beyond_random": score.agreement > _bar(random)} for score in sets],
        "random_words": [_numbers(score) for score in random],
        "verdict": _verdict(sets, random),
    }


def to_text(scores: Sequence[SetScore], n_images: int, n_answers: int) -> str:
    """Return the sets, those that agree most with the others first, and what these numbers do not say.

    Args:
        scores: Of the sets, and of random words beside them.
        n_images: How many images could be read.
        n_answers: Labels that can be the answer, a group as one.
    """
    return "\n".join(_lines(scores, n_images, n_answers)) + "\n"


def _split(scores: Sequence[SetScore]) -> tuple[list[SetScore], list[SetScore]]:
    """Return the sets, best first, and those of random words."""
    sets = [score for score in scores if not score.random]
    sets.sort(key=lambda score: (-score.agreement, score.name))
    return sets, [score for score in scores if score.random]


def _numbers(score: SetScore) -> dict[str, Any]:
    return {
        "name": score.name,
        "templates": score.templates,
        **{name: significant(getattr(score, name)) for name in _NUMBERS},
    }


def _lines(scores: Sequence[SetScore], n_images: int, n_answers: int) -> Iterator[str]:
    sets, random = _split(scores)
    width = max(len("random words"), *(min(_LONGEST_NAME, len(printable(score.name))) for score in sets))
    yield f"{n_images} images, {n_answers} labels"
    yield f"{'set':<{width}}  templates  agreement  margin  entropy"
    for score in sets:
        name = printable(score.name)
        short = name if len(name) <= width else name[: width - 1] + "…"
        yield _row(short, width, score.templates, [getattr(score, name) for name in _NUMBERS])
    columns = zip(*((getattr(score, name) for name in _NUMBERS) for score in random), strict=True)
    yield _row("random words", width, random[0].templates, [sum(column) / len(random) for column in columns])
    yield ""
    yield from wrap(
        "agreement: with the answer of most other sets; margin: between the two best labels; entropy: 0 is sure, 1 is"
        f" all labels alike; random words: the mean of {len(random)} draws",
        _COLUMNS,
    )
    yield ""
    yield from wrap(_verdict(sets, random), _COLUMNS)
    yield from wrap("none of this is accuracy, which needs labelled images: zeroshot prompts tune DIR", _COLUMNS)


def _row(name: str, width: int, templates: int, numbers: Sequence[float]) -> str:
    agreement, margin, entropy = numbers
    return f"{name:<{width}}  {templates:>9}  {percent(agreement):>9}  {margin:>6.3f}  {entropy:>7.3f}"


def _bar(random: Sequence[SetScore]) -> float:
    """Return the most that random words agree with the sets."""
    return max(score.agreement for score in random)


def _verdict(sets: Sequence[SetScore], random: Sequence[SetScore]) -> str:
    """Say which sets stand out from random words, and which answer otherwise than the rest."""
    bar = _bar(random)
    above = [printable(score.name) for score in sets if score.agreement > bar]
    if not above:
        return "no set agrees with the others more than random words do: nothing here speaks for one of them"
    below = [printable(score.name) for score in sets if score.agreement <= bar]
    if not below:
        return "every set agrees with the others more than random words do: nothing here speaks against one of them"
    return f"no closer to the others than random words are, so not to be preferred: {', '.join(below)}"
