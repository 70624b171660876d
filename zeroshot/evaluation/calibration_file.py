"""Writes and reads a calibration, and refuses one that was fitted for another model, template set or label list."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..encoder import EncoderSpec
from ..errors import InputError
from ..results import Manifest
from ..scoring import Classifier
from .calibrate import MAX_TEMPERATURE, MIN_TEMPERATURE, Fit, cool
from .fitted_identity import Identity, describe_difference, identify, read_identity, read_number

CALIBRATION_FORMAT = "zeroshot-calibration"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted temperature and threshold.

    Attributes:
        temperature: Logits are divided by it.
        threshold: Below this probability the answer is "unknown"; None for no threshold.
        source: The file that it was read from.
    """

    temperature: float
    threshold: float | None
    source: str

    def apply(self, classifier: Classifier) -> Classifier:
        """Return the classifier with calibrated probabilities; its answers stay what they were."""
        return cool(classifier, self.temperature)

    def manifest(self) -> dict[str, Any]:
        """Return the calibration as plain data for a manifest's options."""
        return asdict(self)


def to_document(fit: Fit, identity: Identity, manifest: Manifest) -> dict[str, Any]:
    """Return a fit as the plain data of a calibration file."""
    answering = None
    if fit.answering is not None:
        answering = {"precision": asdict(fit.answering.precision), "coverage": asdict(fit.answering.coverage)}
    numbers = ("top1", "ece", "nll", "brier")
    return {
        "format": CALIBRATION_FORMAT,
        "version": VERSION,
        "temperature": fit.temperature,
        "threshold": fit.threshold,
        "wanted_precision": fit.wanted,
        "fitted_for": asdict(identity) | {"labels": list(identity.labels)},
        "fitted_on": fit.fitted_on,
        "held_out": {
            "images": len(fit.after.data.paths),
            "before": {name: getattr(fit.before.metrics, name).value for name in numbers},
            "after": {name: getattr(fit.after.metrics, name).value for name in numbers},
            "at_threshold": answering,
        },
        "manifest": asdict(manifest),
    }


def read_document(path: str | Path, form: str, version: int, command: str) -> dict[str, Any]:
    """Return the plain data of a calibration file.

    Args:
        path: The file.
        form: The format that it has to name.
        version: Likewise.
        command: What writes such files.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", f"`{command} DIR` writes one") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON", f"give the file that `{command}` wrote") from error
    if not isinstance(document, dict) or document.get("format") != form:
        raise InputError(f"{path} is not a calibration file of this kind", f"give the file that `{command}` wrote")
    if document.get("version") != version:
        raise InputError(
            f"{path} has version {document.get('version')!r}, this zeroshot reads {version}", f"run `{command}`"
        )
    return document


def describe_damage(error: Exception) -> str:
    """Return what is wrong with a document, given what reading it raised."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "a value is of another kind" if isinstance(error, TypeError) else str(error)


def load_calibration(path: str | Path, spec: EncoderSpec, classifier: Classifier) -> Calibration:
    """Read a calibration file for a model, template set and label list.

    Args:
        path: What ``zeroshot calibrate`` wrote.
        spec: The loaded model's facts.
        classifier: The classifier that it is to be applied to.

    Raises:
        InputError: It cannot be read, or was fitted for something else; the message says for what.
    """
    fitted, calibration = read_calibration(path)
    if difference := describe_difference(fitted, identify(spec, classifier)):
        raise InputError(
            f"{path} was fitted for {difference}", "run `zeroshot calibrate` for this run's model, prompts and labels"
        )
    return calibration


def read_calibration(path: str | Path) -> tuple[Identity, Calibration]:
    """Read a calibration file, whatever it was fitted for.

    Returns:
        What it was fitted for, and the calibration.

    Raises:
        InputError: It cannot be read, or is no such file.
    """
    document = read_document(path, CALIBRATION_FORMAT, VERSION, "zeroshot calibrate")
    try:
        fitted = read_identity(document["fitted_for"])
        threshold = document["threshold"]
        calibration = Calibration(
            read_number(document["temperature"]), None if threshold is None else read_number(threshold), str(path)
        )
        if not 0.99 * MIN_TEMPERATURE < calibration.temperature < 1.01 * MAX_TEMPERATURE:
            raise ValueError(f"a temperature of {calibration.temperature:g}")
        if not 0 <= (calibration.threshold or 0.0) <= 1:
            raise ValueError(f"a threshold of {threshold:g}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {describe_damage(error)}", "run `zeroshot calibrate` again") from error
    return fitted, calibration
