"""What was learned from examples as text for people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...evaluation.learning import Learning
from ...messages import printable
from .evaluation import percent, with_interval

_SHOWN = 40
_LENGTHS = {1.0: "whole texts", 0.5: "half of them", 0.0: "none (to zero)"}
"""What the texts' rows are multiplied by, in words."""


def to_text(result: Learning, target: str | None) -> str:
    """Return whether the examples helped, by how much, and for which labels.

    Args:
        result: What was learned.
        target: The file that holds it; None where it was not written.
    """
    return "\n".join(_lines(result, target)) + "\n"


def _lines(result: Learning, target: str | None) -> Iterator[str]:
    yield result.problems[0] if result.problems else result.sentence
    yield ""
    if result.after is not None:
        yield f"{len(result.after.data.paths)} examples, each measured by a fold that did not see it"
        yield "in brackets: 95 % intervals"
        for name, run in (("texts alone", result.before), ("learned", result.after)):
            numbers = run.metrics
            yield (
                f"  {name:<12} top-1 {with_interval(numbers.top1)}   calibration error {numbers.ece.value:.3f}"
                f"   log-likelihood −{numbers.nll.value:.3f}"
            )
        yield ""
        yield from _labels(result)
        yield "log-loss by pull to the texts"
        for length in dict.fromkeys(length for _, length, _ in result.learned.losses):
            along = [(strength, loss) for strength, other, loss in result.learned.losses if other == length]
            tried = "  ".join(f"{_name(strength)}: {loss:.4f}" for strength, loss in along)
            yield f"  {_LENGTHS.get(length, f'{length:g} of them')}: {tried}"
    yield f"pull to the texts {_name(result.learned.strength)}{_at(result.learned.length)}"
    yield ""
    if target is None:
        yield "not written; --force writes it all the same"
    else:
        yield f"zeroshot classify ... --learned {printable(target)}"


def _labels(result: Learning) -> Iterator[str]:
    """Yield the recall of each label by the texts alone and learned, what changed most first."""
    assert result.after is not None
    pairs = [
        (one, other)
        for one, other in zip(result.before.per_label, result.after.per_label, strict=True)
        if one.recall is not None and other.recall is not None
    ]
    pairs.sort(key=lambda pair: (-abs((pair[1].recall or 0.0) - (pair[0].recall or 0.0)), pair[0].label))
    width = max(len("label"), *(min(24, len(printable(one.label))) for one, _ in pairs))
    yield f"  {'label':<{width}}  images    texts  learned   (recall)"
    for one, other in pairs[:_SHOWN]:
        name = printable(one.label)
        short = name if len(name) <= width else name[: width - 1] + "…"
        yield f"  {short:<{width}}  {one.support:>6}  {percent(one.recall):>7}  {percent(other.recall):>7}"
    if len(pairs) > _SHOWN:
        yield f"  ... and {len(pairs) - _SHOWN} labels that changed less (--format json has all)"
    yield ""


def _at(length: float) -> str:
    return "" if length == 1 else f", {_LENGTHS.get(length, f'{length:g} of them')}"


def _name(strength: float) -> str:
    return "texts alone" if np.isinf(strength) else f"{strength:g}"
