"""Minimise a smooth function of many numbers: limited-memory BFGS with a preconditioner.

Nocedal and Wright, "Numerical Optimization" (2006): the two-loop recursion is algorithm 7.4, the line search keeps the
Armijo condition (3.4) and cuts back by the minimum of a parabola (3.57). The functions that it is used for are strongly
convex, so that every accepted pair of steps has positive curvature. The tests hold it against scipy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

MEMORY = 10
"""Pairs of steps and gradient changes that the curvature is known from."""

_ARMIJO = 1e-4
_MOST_CUTS = 30
_ROUNDING = 1e-15
"""Share of the value that rounding may add to it; a step is not refused for that."""


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where a minimisation ended.

    Attributes:
        point: Where, in the shape of the start.
        value: The function's value there.
        iterations: Steps that were taken.
        converged: Whether the gradient is small enough there.
    """

    point: Doubles
    value: float
    iterations: int
    converged: bool


def minimise(
    function: Callable[[Doubles], tuple[float, Doubles]],
    start: Doubles,
    precondition: Callable[[Doubles], Doubles],
    least_decrease: float,
    most_iterations: int = 1000,
) -> Minimum:
    """Find the minimum of a convex function.

    Args:
        function: Gives value and gradient at a point, the gradient in the point's shape.
        start: Where to begin.
        precondition: Multiplies a gradient by a rough inverse of the Hessian (symmetric, positive definite).
        least_decrease: It has converged when a Newton-like step is expected to lower the value by less than this.
        most_iterations: How many steps to take at most.
    """
    point = np.asarray(start, dtype=np.float64)
    value, gradient = function(point)
    pairs: deque[tuple[Doubles, Doubles, float]] = deque(maxlen=MEMORY)
    for iteration in range(most_iterations):
        direction = _direction(gradient, pairs, precondition)
        slope = float(np.vdot(gradient, direction))
        if -slope <= 2 * least_decrease:
            return Minimum(point, value, iteration, True)
        step, cuts, rounding = 1.0, 0, _ROUNDING * abs(value)
        while True:
            following = point + step * direction
            next_value, next_gradient = function(following)
            if next_value <= value + _ARMIJO * step * slope + rounding:
                break
            cuts += 1
            if cuts == _MOST_CUTS:  # rounding hides any further decrease
                return Minimum(point, value, iteration, False)
            fitted = -slope * step**2 / (2 * (next_value - value - step * slope))
            step = min(max(fitted, 0.1 * step), 0.5 * step)
        moved, changed = following - point, next_gradient - gradient
        curvature = float(np.vdot(moved, changed))
        if curvature > 1e-12 * float(np.linalg.norm(moved)) * float(np.linalg.norm(changed)):
            pairs.append((moved, changed, 1.0 / curvature))
        point, value, gradient = following, next_value, next_gradient
    return Minimum(point, value, most_iterations, False)


def _direction(
    gradient: Doubles, pairs: deque[tuple[Doubles, Doubles, float]], precondition: Callable[[Doubles], Doubles]
) -> Doubles:
    """Return minus the gradient times the inverse Hessian as far as it is known."""
    rest = gradient.copy()
    shares: list[float] = []
    for moved, changed, inverse in reversed(pairs):
        share = inverse * float(np.vdot(moved, rest))
        rest -= share * changed
        shares.append(share)
    scale = 1.0
    if pairs:
        moved, changed, inverse = pairs[-1]
        scale = 1.0 / (inverse * float(np.vdot(changed, precondition(changed))))
    result = scale * precondition(rest)
    for (moved, changed, inverse), share in zip(pairs, reversed(shares), strict=True):
        result += moved * (share - inverse * float(np.vdot(changed, result)))
    return -result
