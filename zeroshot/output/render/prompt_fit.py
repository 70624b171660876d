"""How template sets answer on images without labels, as text for users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from ...evaluation.prompt_fit import SetScore
from ...messages import printable
from .evaluation import percent

_COLUMNS = 79


def to_text(scores: Sequence[SetScore], n_images: int, n_labels: int) -> str:
    """Return the sets, those that agree most with the others first, and what these numbers do not say."""
    return "\n".join(_lines(scores, n_images, n_labels)) + "\n"


def _lines(scores: Sequence[SetScore], n_images: int, n_labels: int) -> Iterator[str]:
    sets = sorted((score for score in scores if not score.random), key=lambda score: (-score.agreement, score.name))
    random = [score for score in scores if score.random]
    width = max(len("random words"), *(min(24, len(printable(score.name))) for score in sets))
    yield f"{n_images} images, {n_labels} labels"
    yield f"{'set':<{width}}  templates  agreement  margin  entropy"
    for score in sets:
        name = printable(score.name)
        short = name if len(name) <= width else name[: width - 1] + "…"
        yield (
            f"{short:<{width}}  {score.templates:>9}  {percent(score.agreement):>9}  {score.margin:>6.3f}"
            f"  {score.entropy:>7.3f}"
        )
    columns = zip(*((score.agreement, score.margin, score.entropy) for score in random), strict=True)
    means = [sum(column) / len(random) for column in columns]
    yield (
        f"{'random words':<{width}}  {random[0].templates:>9}  {percent(means[0]):>9}  {means[1]:>6.3f}"
        f"  {means[2]:>7.3f}  (mean of {len(random)} draws)"
    )
    yield ""
    yield "agreement: with the answer of most other sets; margin: between the two best"
    yield "labels; entropy: 0 is sure, 1 is all labels alike"
    yield from wrap(_verdict(sets, random), _COLUMNS)
    yield "none of this is accuracy, which needs labelled images: prompts tune DIR"


def _verdict(sets: Sequence[SetScore], random: Sequence[SetScore]) -> str:
    """Say which sets stand out from random words, and which answer otherwise than the rest."""
    bar = max(score.agreement for score in random)
    above = [printable(score.name) for score in sets if score.agreement > bar]
    if not above:
        return "no set agrees with the others more than random words do: nothing here speaks for one of them"
    below = [printable(score.name) for score in sets if score.agreement <= bar]
    if not below:
        return "every set agrees with the others more than random words do: nothing here speaks against one of them"
    return f"no closer to the others than random words are, so not to be preferred: {', '.join(below)}"
