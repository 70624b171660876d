"""What was learned from examples as text for users."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

import numpy as np

from ...evaluation.learning import Learning
from ...messages import printable
from .evaluation import percent, tell_apart, with_interval

_SHOWN = 40
_COLUMNS = 60
_KEPT = "\N{NO-BREAK SPACE}"
"""Stands for a space at which a line is not broken."""
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
    yield from _wrap(result.problems[0] if result.problems else result.sentence)
    yield ""
    if result.after is not None:
        yield f"{len(result.after.data.paths)} examples, each measured by a fold that did not see it"
        yield "in brackets: 95 % intervals"
        yield f"{'':<33}  calibration        log-"
        yield f"  {'':<11}  {'top-1':<18}        error  likelihood"
        for name, run in (("texts alone", result.before), ("learned", result.after)):
            top1, ece, nll = run.metrics.top1, run.metrics.ece.value, run.metrics.nll.value
            yield f"  {name:<11}  {with_interval(top1):<18}  {ece:>11.3f}  {f'−{nll:.3f}':>10}"
        yield ""
        yield from _labels(result)
        yield "log-loss by pull to the texts"
        for length in dict.fromkeys(length for _, length, _ in result.learned.losses):
            along = [(strength, loss) for strength, other, loss in result.learned.losses if other == length]
            tried = "  ".join(f"{_name(strength)}: {loss:.4f}".replace(" ", _KEPT) for strength, loss in along)
            yield from _wrap(f"  {_LENGTHS.get(length, f'{length:g} of them')}: {tried}", "    ")
    yield f"pull to the texts: {_name(result.learned.strength)}{_at(result.learned.length)}"
    yield ""
    if target is None:
        yield "not written; --force writes it all the same"
    else:
        yield f"zeroshot classify ... --learned {printable(target)}"


def _wrap(line: str, indent: str = "") -> Iterator[str]:
    """Yield a line as lines that a narrow terminal breaks nowhere; indent all but the first."""
    lines = wrap(line, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    yield from (line.replace(_KEPT, " ") for line in lines)


def _labels(result: Learning) -> Iterator[str]:
    """Yield the recall of each label by the texts alone and learned, what changed most first."""
    assert result.after is not None
    pairs = [
        (one, other)
        for one, other in zip(result.before.per_label, result.after.per_label, strict=True)
        if one.recall is not None and other.recall is not None
    ]
    pairs.sort(key=lambda pair: (-abs((pair[1].recall or 0.0) - (pair[0].recall or 0.0)), pair[0].label))
    names = tell_apart(result.before)
    width = max(len("label"), *(min(24, len(printable(names[one.key]))) for one, _ in pairs))
    yield "recall by label"
    yield f"  {'label':<{width}}  images    texts  learned"
    for one, other in pairs[:_SHOWN]:
        name = printable(names[one.key])
        short = name if len(name) <= width else name[: width - 1] + "…"
        yield f"  {short:<{width}}  {one.support:>6}  {percent(one.recall):>7}  {percent(other.recall):>7}"
    if len(pairs) > _SHOWN:
        yield f"  ... and {len(pairs) - _SHOWN} more, which changed less (--format json: all)"
    yield ""


def _at(length: float) -> str:
    return "" if length == 1 else f", {_LENGTHS.get(length, f'{length:g} of them')}"


def _name(strength: float) -> str:
    return "texts alone" if np.isinf(strength) else f"{strength:g}"
