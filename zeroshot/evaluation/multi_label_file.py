"""A calibration for several labels per image on disk, and the check that it belongs to the run that wants to use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..encoder import EncoderSpec
from ..errors import InputError
from ..multi_label import Judge
from ..results import Manifest
from .calibration_file import describe_damage, read_document
from .fitted_identity import Identity, describe_difference, identify, read_identity, read_number
from .multi_label import MultiLabelFit, MultiLabelResult

MULTI_LABEL_FORMAT = "zeroshot-multi-label-calibration"
VERSION = 1

_AGAIN = "run `zeroshot calibrate --multi-label` for this run's model, prompts and labels"


def identify_judge(spec: EncoderSpec, judge: Judge) -> Identity:
    """Return what a fit is valid for: background labels are part of it; messages name those of the user alone."""
    return replace(identify(spec, judge.rows), score="multi-label", labels=tuple(sorted(judge.classifier.labels.names)))


def to_document(fit: MultiLabelFit, identity: Identity, manifest: Manifest) -> dict[str, Any]:
    """Return a fit as the plain data of a file."""
    return {
        "format": MULTI_LABEL_FORMAT,
        "version": VERSION,
        "slope": fit.judge.slope,
        "offset": fit.judge.offset,
        "threshold": fit.threshold,
        "wanted_precision": fit.wanted,
        "fitted_for": asdict(identity) | {"labels": list(identity.labels)},
        "fitted_on": fit.fitted_on,
        "held_out": {
            "images": len(fit.after.data.paths),
            "before": summarise(fit.before),
            "after": summarise(fit.after),
        },
        "manifest": asdict(manifest),
    }


def summarise(result: MultiLabelResult) -> dict[str, float]:
    """Return the numbers of a result, by name."""
    names = ("mean_average_precision", "micro_f1", "macro_f1", "exact", "ece", "nll", "threshold")
    shares = {"precision": result.precision.value, "recall": result.recall.value}
    return {name: float(getattr(result, name)) for name in names} | shares


@dataclass(frozen=True, slots=True)
class MultiLabelCalibration:
    """A fitted slope, offset and threshold.

    Attributes:
        slope: Logits are multiplied by it; above 0.
        offset: What is added after that.
        threshold: From which probability on an image has a label; None where none was found.
        source: The file that it was read from.
    """

    slope: float
    offset: float
    threshold: float | None
    source: str

    def apply(self, judge: Judge) -> Judge:
        """Return the judge with calibrated probabilities."""
        return replace(judge, slope=self.slope, offset=self.offset)

    def manifest(self) -> dict[str, Any]:
        """Return the calibration as plain data for a manifest's options."""
        return asdict(self)


def load_multi_label_calibration(path: str | Path, spec: EncoderSpec, judge: Judge) -> MultiLabelCalibration:
    """Read a file that ``zeroshot calibrate --multi-label`` wrote.

    Args:
        path: The file.
        spec: The loaded model's facts.
        judge: What it is to be applied to.

    Raises:
        InputError: It cannot be read, or was fitted for something else; the message says for what.
    """
    document = read_document(path, MULTI_LABEL_FORMAT, VERSION, "zeroshot calibrate --multi-label")
    try:
        entry = document["fitted_for"]
        fitted = read_identity(entry)
        threshold = document["threshold"]
        found = MultiLabelCalibration(
            read_number(document["slope"]),
            read_number(document["offset"]),
            None if threshold is None else read_number(threshold),
            str(path),
        )
        if not 0 < found.slope < float("inf") or not abs(found.offset) < float("inf"):
            raise ValueError("a number out of range")
        if not 0 <= (found.threshold or 0.0) <= 1:
            raise ValueError("a threshold out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {describe_damage(error)}", _AGAIN) from error
    if difference := describe_difference(fitted, identify_judge(spec, judge)):
        raise InputError(f"{path} was fitted for {difference}", _AGAIN)
    return found
