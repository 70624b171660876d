"""A choice of templates as text for people, and as a template set."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from ...evaluation.tune import Tuning
from .evaluation import percent, with_interval


def to_text(result: Tuning, start: str) -> str:
    """Return the finding, the two sets side by side, and how the choice was made.

    Args:
        result: The choice.
        start: The starting set's name.
    """
    return "\n".join(_lines(result, start)) + "\n"


def _lines(result: Tuning, start: str) -> Iterator[str]:
    yield result.sentence
    yield ""
    before, after = result.before.metrics, result.after.metrics
    yield f"on the {len(result.after.data.paths)} images held out; in brackets: 95 % intervals"
    yield f"  {start:<12} top-1 {with_interval(before.top1)}   calibration error {before.ece.value:.3f}"
    yield f"  {'chosen':<12} top-1 {with_interval(after.top1)}   calibration error {after.ece.value:.3f}"
    yield ""
    yield f"chosen on the other {result.chosen_on} images (top-1 there, which flatters)"
    for step in result.steps:
        yield f"  {percent(step.accuracy)}  {step.template}"


def to_yaml(result: Tuning, name: str, start: str) -> str:
    """Return the chosen templates as a set for ``--prompts FILE``."""
    before, after = result.before.metrics.top1, result.after.metrics.top1
    description = (
        f"Chosen on {result.chosen_on} labelled images; top-1 on {len(result.after.data.paths)} others "
        f"{with_interval(after)}, with {start} {with_interval(before)}."
    )
    document = {"name": name, "description": description, "templates": list(result.templates)}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))
