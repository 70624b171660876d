"""``zeroshot eval --few-shot``: how accuracy grows with the number of examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..enums import ReportFormat
from ..errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..evaluation.evaluate import EncodedDataset
    from ..results import Manifest
    from ..scoring import Classifier


def parse_shots(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``.

    Raises:
        UsageError: They are no whole numbers above 0, or one stands twice.
    """
    try:
        shots = tuple(int(part) for part in text.split(","))
    except ValueError:
        shots = ()
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise UsageError(f"--few-shot {text}: expected different whole numbers above 0", "--few-shot 1,2,4,8,16")
    return tuple(sorted(shots))


def write_curve(
    data: EncodedDataset,
    texts: Classifier,
    shots: tuple[int, ...],
    seeds: int,
    manifest: Manifest,
    form: ReportFormat,
    output: Path | None,
) -> None:
    """Draw the curve, and write it."""
    from ..evaluation.few_shot import METHODS, trace_curve
    from ..output.destination import open_output
    from ..output.render import few_shot as render_few_shot
    from ..output.render.evaluation import encode

    with console.Bar("fits", seeds * len(shots) * len(METHODS)) as bar:
        curve = trace_curve(data, texts, shots, seeds, bar.advance)
    with open_output(output) as stream:
        if form is ReportFormat.JSON:
            stream.write(encode(render_few_shot.to_document(curve, manifest)))
        else:
            stream.write(render_few_shot.to_text(curve).encode())
