"""The plots of an evaluation as SVG, drawn here: a few rectangles and lines need no plotting library.

Each is text, scales without loss, and says in its title and description what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...evaluation.statistics import Bin, RiskPoint, calibration_error
from .markup import Safe, join, tag

STYLE = """
svg.plot { --ink: #1c2430; --faint: #8a94a3; --grid: #d9dee5; --hit: #1f6fd6; --miss: #d9480f; }
@media (prefers-color-scheme: dark) {
  svg.plot { --ink: #e6eaf0; --faint: #8c97a8; --grid: #333c4a; --hit: #6ea8ff; --miss: #ff8a5c; }
}
svg.plot text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg.plot text.small { font-size: 10px; }
svg.plot .grid { stroke: var(--grid); fill: none; }
svg.plot .axis { stroke: var(--faint); fill: none; }
svg.plot .ideal { stroke: var(--faint); stroke-dasharray: 4 4; fill: none; }
svg.plot .curve { stroke: var(--hit); stroke-width: 2; fill: none; }
svg.plot .marker { stroke: var(--ink); stroke-dasharray: 2 3; fill: none; }
svg.plot .bar { fill: var(--hit); }
svg.plot .gap { fill: var(--miss); }
svg.plot .under { fill: var(--hit); }
"""
"""Colours for light and dark; a page that holds the plots inside itself includes this in its own style sheet."""

_SIDE, _LEFT, _TOP = 300.0, 58.0, 14.0


def reliability(bins: Sequence[Bin]) -> Safe:
    """Draw confidence against accuracy: on the diagonal, probabilities are calibrated.

    Args:
        bins: From `statistics.reliability`.
    """
    shapes = [*_frame("confidence", "accuracy"), _line("ideal", 0, 0, 1, 1), *_legend()]
    for b in bins:
        if not b.count:
            continue
        words = f"confidence {b.confidence:.2f}, accuracy {b.accuracy:.2f}, {b.count} images"
        low, high = sorted((b.accuracy, b.confidence))
        shapes.append(
            tag(
                "g",
                tag("title", words),
                _box("bar", b.low, 0, b.high, low, 0.75),
                _box("gap" if b.accuracy < b.confidence else "under", b.low, low, b.high, high, 0.4),
                tag(
                    "text",
                    _short(b.count),
                    x=f"{_x((b.low + b.high) / 2):.1f}",
                    y=f"{_y(high) - 3:.1f}",
                    text_anchor="middle",
                    class_="small",
                ),
            )
        )
    error = calibration_error(tuple(bins))
    description = f"Expected calibration error {error:.3f}. " + "; ".join(
        f"{b.low:.2f} to {b.high:.2f}: accuracy {b.accuracy:.2f} of {b.count}" for b in bins if b.count
    )
    return _svg("Reliability: accuracy by confidence", description, 380, 384, shapes)


def risk_coverage(points: Sequence[RiskPoint]) -> Safe:
    """Draw the share of wrong answers against the share of images answered, the surest first.

    Args:
        points: From `statistics.risk_coverage`, by rising coverage.
    """
    top = _ceiling(max(point.risk for point in points))
    path = "M" + " L".join(f"{_x(point.coverage):.1f} {_y(point.risk / top):.1f}" for point in points)
    shapes = [
        *_frame("share of images answered", "share of answers wrong", top),
        tag("path", class_="curve", d=path),
        tag("line", class_="marker", x1=_x(1), x2=_x(1), y1=_y(1), y2=_y(0), data_left=_LEFT, data_side=_SIDE),
    ]
    sampled = [next(point for point in points if point.coverage >= goal - 1e-9) for goal in (0.25, 0.5, 0.75, 1.0)]
    description = "; ".join(f"answering {p.coverage:.0%}: {p.risk:.1%} wrong" for p in sampled)
    return _svg("Risk against coverage", description, 380, 360, shapes)


def _svg(title: str, description: str, width: float, height: float, shapes: Sequence[Safe]) -> Safe:
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        join(shapes),
        class_="plot",
        role="img",
        aria_label=f"{title}. {description}",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        xmlns="http://www.w3.org/2000/svg",
    )


def _frame(x_title: str, y_title: str, top: float = 1.0) -> list[Safe]:
    """Draw grid, axes, numbers and titles of a plot whose x runs from 0 to 1 and y from 0 to ``top``."""
    shapes: list[Safe] = []
    for step in range(6):
        share = step / 5
        shapes += [_line("grid", share, 0, share, 1), _line("grid", 0, share, 1, share)]
        shapes.append(tag("text", f"{share:.1f}", x=f"{_x(share):.1f}", y=f"{_y(0) + 18:.1f}", text_anchor="middle"))
        value = f"{share * top:.2f}".rstrip("0").rstrip(".") or "0"
        shapes.append(tag("text", value, x=f"{_LEFT - 8:.1f}", y=f"{_y(share) + 4:.1f}", text_anchor="end"))
    shapes += [_line("axis", 0, 0, 1, 0), _line("axis", 0, 0, 0, 1)]
    shapes.append(tag("text", x_title, x=f"{_x(0.5):.1f}", y=f"{_y(0) + 38:.1f}", text_anchor="middle"))
    turned = f"translate(13 {_y(0.5):.1f}) rotate(-90)"
    shapes.append(tag("text", y_title, transform=turned, text_anchor="middle"))
    return shapes


def _legend() -> list[Safe]:
    """Say below a reliability diagram what its colours and numbers are."""
    shapes: list[Safe] = []
    entries = ((0.0, "bar", 0.75, "accuracy"), (0.26, "gap", 0.4, "too sure"), (0.5, "under", 0.4, "unsure"))
    for left, kind, opacity, words in entries:
        x, y = f"{_x(left):.1f}", f"{_y(0) + 49:.1f}"
        shapes.append(tag("rect", class_=kind, fill_opacity=opacity, x=x, y=y, width=10, height=10))
        shapes.append(tag("text", words, x=f"{_x(left) + 15:.1f}", y=f"{_y(0) + 58:.1f}"))
    shapes.append(tag("text", "n: images", x=f"{_x(1):.1f}", y=f"{_y(0) + 58:.1f}", text_anchor="end"))
    return shapes


def _short(count: int) -> str:
    """Return a count in at most four characters."""
    return str(count) if count < 1000 else f"{count / 1000:.0f}k" if count >= 9950 else f"{count / 1000:.1f}k"


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Safe:
    ends = {"x1": _x(x1), "y1": _y(y1), "x2": _x(x2), "y2": _y(y2)}
    return tag("line", class_=name, **{key: f"{value:.1f}" for key, value in ends.items()})


def _box(name: str, x1: float, y1: float, x2: float, y2: float, opacity: float) -> Safe:
    left, top = _x(x1) + 1, _y(y2)
    width, height = _x(x2) - _x(x1) - 2, _y(y1) - _y(y2)
    numbers = {"x": left, "y": top, "width": width, "height": height}
    shape = {key: f"{value:.1f}" for key, value in numbers.items()}
    return tag("rect", class_=name, fill_opacity=opacity, **shape)


def _x(share: float) -> float:
    return _LEFT + share * _SIDE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _ceiling(value: float) -> float:
    """Return the round number at or above a share that an axis ends with."""
    return next(limit for limit in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0) if value <= limit)
