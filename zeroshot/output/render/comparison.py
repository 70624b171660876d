"""A comparison of two runs as text for people or a versioned document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...evaluation.compare import Comparison, Paired
from ...evaluation.eval_file import Answer, RunFile
from ...messages import and_more, count_of, printable
from ...results import significant
from .evaluation import p_value, with_interval

COMPARE_FORMAT = "zeroshot-compare"
JSON_VERSION = 1

_SHOWN_LABELS = 10
_SHOWN_IMAGES = 10


def to_document(result: Comparison, first: RunFile, second: RunFile) -> dict[str, Any]:
    """Return the comparison as plain data: the finding, the numbers, labels and images that changed."""
    return {
        "format": COMPARE_FORMAT,
        "version": JSON_VERSION,
        "runs": {"a": _run(first), "b": _run(second)},
        "finding": result.sentence,
        "images": result.n_images,
        "top1": _paired(result.top1),
        "top5": _paired(result.top5),
        "labels": [asdict(change) for change in result.labels],
        "gained": [_change(*pair) for pair in result.gained],
        "lost": [_change(*pair) for pair in result.lost],
        "swapped": [_change(*pair) for pair in result.swapped],
        "notes": list(result.notes),
    }


def _run(run: RunFile) -> dict[str, str]:
    return {"file": run.source, "title": run.title}


def _paired(paired: Paired) -> dict[str, Any]:
    return {
        "a": asdict(paired.first),
        "b": asdict(paired.second),
        "difference": asdict(paired.difference),
        "only_a": paired.only_first,
        "only_b": paired.only_second,
        "p": significant(paired.p),
    }


def _change(before: Answer, after: Answer) -> dict[str, Any]:
    return {
        "path": after.path,
        "target": after.target,
        "a": {"label": before.label, "probability": before.probability},
        "b": {"label": after.label, "probability": after.probability},
    }


def to_text(result: Comparison, first: RunFile, second: RunFile) -> str:
    """Return the comparison as text: the finding first, then what it rests on."""
    return "\n".join(_lines(result, first, second)) + "\n"


def _lines(result: Comparison, first: RunFile, second: RunFile) -> Iterator[str]:
    yield result.sentence
    yield ""
    yield f"A  {printable(first.source)} ({printable(first.title)})"
    yield f"B  {printable(second.source)} ({printable(second.title)})"
    yield f"{result.n_images} images in both; in brackets: 95 % intervals"
    yield ""
    for name, paired in (("top-1", result.top1), ("top-5", result.top5)):
        yield f"{name}  A {with_interval(paired.first)}   B {with_interval(paired.second)}   p {p_value(paired.p)}"
        yield f"       right only in A: {paired.only_first}, only in B: {paired.only_second}"
    gained = [change for change in result.labels if change.second > change.first]
    lost = [change for change in reversed(result.labels) if change.second < change.first]
    for title, changes in (("labels that gained", gained), ("labels that lost", lost)):
        if changes:
            yield f"\n{title}"
            for change in changes[:_SHOWN_LABELS]:
                yield (
                    f"  {change.second - change.first:+d}  {printable(change.label)}: "
                    f"{change.first} to {change.second} right of {change.support}"
                )
            yield from _more(len(changes) - _SHOWN_LABELS, "labels")
    for title, pairs in (("right only in B", result.gained), ("right only in A", result.lost)):
        if pairs:
            yield f"\n{title}"
            yield from _images(pairs)
    if result.swapped:
        yield f"\nwrong in both, differently: {count_of(len(result.swapped), 'image')}"


def _images(pairs: Sequence[tuple[Answer, Answer]]) -> Iterator[str]:
    ordered = sorted(pairs, key=lambda pair: -max(pair[0].probability, pair[1].probability))
    for before, after in ordered[:_SHOWN_IMAGES]:
        yield (
            f"  {printable(after.path)}: {printable(before.label)} ({before.probability:.2f})"
            f" -> {printable(after.label)} ({after.probability:.2f})"
        )
    yield from _more(len(pairs) - _SHOWN_IMAGES, "images")


def _more(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"  ... {and_more(count, noun)} (--format json has all)"
