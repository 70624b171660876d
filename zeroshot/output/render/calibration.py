"""A calibration as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from ...evaluation.calibrate import MIN_ANSWERED, Fit
from ...messages import printable
from .evaluation import percent, with_interval


def to_text(fit: Fit, target: str | None, learned: str | None = None) -> str:
    """Return what was fitted, and what it does on the held-out half.

    Args:
        fit: The temperature and threshold.
        target: The file that holds them; None where it was not written.
        learned: The file of learned weights that it belongs to; None for the texts alone.
    """
    return "\n".join(_lines(fit, target, learned)) + "\n"


def _lines(fit: Fit, target: str | None, learned: str | None) -> Iterator[str]:
    if fit.problems:
        yield from fit.problems
        yield ""
    if fit.remarks:
        yield from (f"note: {remark}" for remark in fit.remarks)
        yield ""
    manner = "too sure" if fit.temperature > 1 else "not sure enough"
    yield f"temperature {fit.temperature:.4g}: the model was {manner}"
    if fit.wanted is not None:
        if fit.threshold is None:
            yield f"threshold   none: no threshold gives {percent(fit.wanted)} precision on {MIN_ANSWERED} images"
        else:
            yield f"threshold   {fit.threshold:.4g} for {percent(fit.wanted)} precision"
    yield ""
    yield f"fitted on {fit.fitted_on} images; on the {len(fit.after.data.paths)} held out:"
    before, after = fit.before.metrics, fit.after.metrics
    yield "                    before    after"
    for name, first, second in (
        ("calibration error", before.ece, after.ece),
        ("log-likelihood", before.nll, after.nll),
        ("Brier score", before.brier, after.brier),
    ):
        sign = "−" if name == "log-likelihood" else ""
        yield f"{name:<18}{sign + format(first.value, '.4f'):>8} {sign + format(second.value, '.4f'):>8}"
    same = "unchanged" if before.top1 == after.top1 else f"{percent(before.top1.value)} before"
    yield f"top-1 {with_interval(after.top1)}, {same}"
    if fit.answering is not None:
        yield f"above the threshold: precision {with_interval(fit.answering.precision)}"
        yield f"answered:            {with_interval(fit.answering.coverage)} of the images"
    yield ""
    if target is None:
        yield "not written; --force writes it all the same"
    else:
        weights = f"--learned {printable(learned)} " if learned else ""
        yield f"zeroshot classify ... {weights}--calibration {printable(target)}"
