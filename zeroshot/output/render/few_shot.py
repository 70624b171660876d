"""Accuracy against the number of examples, as a table or a versioned document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...evaluation.compare import SIGNIFICANT
from ...evaluation.few_shot import Curve, Point
from ...messages import count_of
from ...results import Manifest

FEW_SHOT_FORMAT = "zeroshot-few-shot"
VERSION = 1


def to_document(curve: Curve, manifest: Manifest) -> dict[str, Any]:
    """Return a curve as plain data."""
    return {
        "format": FEW_SHOT_FORMAT,
        "version": VERSION,
        "manifest": asdict(manifest),
        "seeds": curve.seeds,
        "measured": list(curve.measured),
        "zero_shot": _point(curve.zero_shot),
        "points": [_point(point) | {"examples": curve.examples[point.shots]} for point in curve.points],
        "labels_with_fewer_images": list(curve.fewer),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "method": point.method,
        "shots": point.shots,
        "top1": point.top1,
        "top1_deviation": point.spread,
        "ece": point.ece,
        "difference": asdict(point.paired.difference),
        "p": point.paired.p,
    }


def to_text(curve: Curve) -> str:
    """Return a curve as two tables: accuracy and calibration error, a row each method."""
    return "\n".join(_lines(curve)) + "\n"


def _lines(curve: Curve) -> Iterator[str]:
    shots = list(dict.fromkeys(point.shots for point in curve.points))
    methods = list(dict.fromkeys(point.method for point in curve.points))
    at = {(point.method, point.shots): point for point in curve.points}
    width = max(len(name) for name in (*methods, curve.zero_shot.method))
    heading = "".join(f"{count:>9}" for count in shots)
    draws, images = count_of(curve.seeds, "draw"), count_of(min(curve.measured), "image")
    yield f"top-1 in % by examples per label, mean of {draws};"
    yield f"{images} or more measured"
    yield f"  {'':<{width}}{heading}"
    yield f"  {curve.zero_shot.method:<{width}}" + f"{100 * curve.zero_shot.top1:>8.1f} " * len(shots)
    for name in methods:
        yield f"  {name:<{width}}" + "".join(
            f"{100 * at[name, count].top1:>8.1f}{_mark(at[name, count])}" for count in shots
        )
    yield "  +, −: better, worse than zero-shot"
    yield "  (exact McNemar test over all draws, p < 0.05)"
    yield ""
    yield "calibration error"
    yield f"  {curve.zero_shot.method:<{width}}" + f"{curve.zero_shot.ece:>8.3f} " * len(shots)
    for name in methods:
        yield f"  {name:<{width}}" + "".join(f"{at[name, count].ece:>8.3f} " for count in shots)
    if curve.fewer:
        yield ""
        yield f"{len(curve.fewer)} labels gave fewer examples than the most: half of their images"
        yield "examples per label that there were: " + ", ".join(
            f"{curve.examples[count]:.1f} for {count}" for count in shots if curve.examples[count] < count
        )


def _mark(point: Point) -> str:
    if point.paired.p >= SIGNIFICANT:
        return " "
    return "+" if point.paired.difference.value > 0 else "−"
