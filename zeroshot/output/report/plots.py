"""The plots of an evaluation as SVG, drawn here: a few rectangles and lines need no plotting library.

Each is text, scales without loss, and says in its title and description what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...evaluation.metrics import Indices
from ...evaluation.statistics import Bin, RiskPoint, calibration_error
from .markup import Safe, join, tag

STYLE = """
svg.plot { --ink: #1c2430; --faint: #8a94a3; --grid: #d9dee5; --hit: #1f6fd6; --miss: #d9480f; --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  svg.plot { --ink: #e6eaf0; --faint: #8c97a8; --grid: #333c4a; --hit: #6ea8ff; --miss: #ff8a5c; --page: #12161c; }
}
svg.plot text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg.plot text.small { font-size: 10px; }
svg.plot .grid { stroke: var(--grid); fill: none; }
svg.plot .axis { stroke: var(--faint); fill: none; }
svg.plot .ideal { stroke: var(--faint); stroke-dasharray: 4 4; fill: none; }
svg.plot .curve { stroke: var(--hit); stroke-width: 2; fill: none; }
svg.plot .bar { fill: var(--hit); }
svg.plot .gap { fill: var(--miss); }
svg.plot .cell-hit { fill: var(--hit); }
svg.plot .cell-miss { fill: var(--miss); }
svg.plot .page { fill: var(--page); }
"""
"""Colours for light and dark; a page that holds the plots inside itself includes this in its own style sheet."""

LABELLED_CELLS = 60
"""Beyond this many labels a confusion matrix is drawn without their names."""

_SIDE, _LEFT, _TOP = 300.0, 48.0, 14.0


def reliability(bins: Sequence[Bin], *, standalone: bool = False) -> Safe:
    """Draw confidence against accuracy: on the diagonal, probabilities are honest.

    Args:
        bins: From `statistics.reliability`.
        standalone: For a file of its own, with its style inside.
    """
    shapes = [*_frame("confidence", "accuracy"), _line("ideal", 0, 0, 1, 1)]
    for b in bins:
        if not b.count:
            continue
        words = f"confidence {b.confidence:.2f}, accuracy {b.accuracy:.2f}, {b.count} pictures"
        low, high = sorted((b.accuracy, b.confidence))
        shapes.append(
            tag(
                "g",
                tag("title", words),
                _box("bar", b.low, 0, b.high, b.accuracy, 0.75),
                _box("gap", b.low, low, b.high, high, 0.4),
            )
        )
    error = calibration_error(tuple(bins))
    description = f"Expected calibration error {error:.3f}. " + "; ".join(
        f"{b.low:.2f} to {b.high:.2f}: accuracy {b.accuracy:.2f} of {b.count}" for b in bins if b.count
    )
    return _svg("Reliability: accuracy by confidence", description, 370, 360, shapes, standalone)


def risk_coverage(points: Sequence[RiskPoint], *, standalone: bool = False) -> Safe:
    """Draw the share of wrong answers against the share of pictures answered, the surest first.

    Args:
        points: From `statistics.risk_coverage`, by rising coverage.
        standalone: For a file of its own, with its style inside.
    """
    top = _ceiling(max(point.risk for point in points))
    path = "M" + " L".join(f"{_x(point.coverage):.1f} {_y(point.risk / top):.1f}" for point in points)
    shapes = [
        *_frame("share of pictures answered", "share of answers wrong", top),
        tag("path", class_="curve", d=path),
    ]
    sampled = [next(point for point in points if point.coverage >= goal - 1e-9) for goal in (0.25, 0.5, 0.75, 1.0)]
    description = "; ".join(f"answering {p.coverage:.0%}: {p.risk:.1%} wrong" for p in sampled)
    return _svg("Risk against coverage", description, 370, 360, shapes, standalone)


def confusion(counts: Indices, names: Sequence[str], *, standalone: bool = False) -> Safe:
    """Draw a confusion matrix as a heat map; each row is shaded by its own share.

    Args:
        counts: ``[target, predicted]``, shape ``(n_labels, n_labels)``.
        names: The labels' names, by index.
        standalone: For a file of its own, with its style inside.
    """
    n = len(names)
    labelled = n <= LABELLED_CELLS
    cell = 22.0 if labelled else max(1.0, 900.0 / n)
    margin = 14.0 + (6.2 * min(24, max(len(name) for name in names)) if labelled else 10.0)
    size = margin + n * cell + 10
    shapes = [tag("rect", class_="grid", x=margin, y=margin, width=n * cell, height=n * cell)]
    support = counts.sum(axis=1)
    for target, predicted in zip(*counts.nonzero(), strict=True):
        count, share = int(counts[target, predicted]), counts[target, predicted] / support[target]
        shapes.append(
            tag(
                "rect",
                tag("title", f"{names[target]} taken for {names[predicted]}: {count} of {support[target]}"),
                class_="cell-hit" if target == predicted else "cell-miss",
                x=f"{margin + predicted * cell:.1f}",
                y=f"{margin + target * cell:.1f}",
                width=f"{cell:.1f}",
                height=f"{cell:.1f}",
                fill_opacity=f"{0.12 + 0.88 * share:.2f}",
            )
        )
    for index, name in enumerate(names if labelled else ()):
        middle = margin + (index + 0.5) * cell + 4
        shown = name if len(name) <= 24 else name[:23] + "…"
        shapes.append(tag("text", shown, x=margin - 6, y=f"{middle:.1f}", text_anchor="end", class_="small"))
        turned = f"translate({middle:.1f} {margin - 6:.1f}) rotate(-90)"
        shapes.append(tag("text", shown, transform=turned, class_="small"))
    right = int(counts.diagonal().sum())
    description = f"Rows are true labels, columns are answers. {right} of {int(counts.sum())} pictures are right."
    return _svg(f"Confusion matrix of {n} labels", description, size, size, shapes, standalone)


def _svg(title: str, description: str, width: float, height: float, shapes: Sequence[Safe], standalone: bool) -> Safe:
    own = [
        tag("style", Safe(STYLE)),
        tag("rect", class_="page", width="100%", height="100%"),
    ]
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        join(own if standalone else []),
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
