"""How time and memory grow with one size: the slope of their logarithms over the logarithm of the size.

    exponent = sum (log x - mean log x) (log t - mean log t) / sum (log x - mean log x)^2

An exponent of 1 is linear growth. The largest sizes say most, as a fixed cost hides growth at small ones; so
the line is fitted to the upper half of the points, at least three.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .clock import seconds_of
from .memory import peak_mb
from .results import Clock, Curve, Point
from .work import Scale

LEAST_MB = 2.0
"""memory below this is not told from the noise of the resident set"""
REPEATS = 2


@dataclass(frozen=True)
class Sweep:
    """A work at several sizes.

    Attributes:
        text: what is done, with the sizes that stay.
        along: the size that grows.
        sizes: in ascending order.
        build: makes the call of a size; building is not timed.
        expected: the exponent of time by the count of operations.
    """

    name: str
    text: str
    along: str
    sizes: tuple[int, ...]
    build: Callable[[int], Callable[[], object]]
    expected: float = 1.0


def curve_of(sweep: Sweep, scale: Scale, clock: Clock) -> Curve:
    """Measure a sweep: of each size the least time of some calls, and the peak memory of one."""
    points = []
    for size in sweep.sizes:
        call = sweep.build(size)
        call()
        peak = peak_mb(call, scale.device)
        seconds = min(seconds_of(call, 1, clock, scale.device) for _ in range(REPEATS))
        points.append(Point(size=size, seconds=seconds, peak_mb=peak))
    peaks = [(point.size, point.peak_mb) for point in points if point.peak_mb and point.peak_mb > LEAST_MB]
    return Curve(
        name=sweep.name,
        text=sweep.text,
        along=sweep.along,
        quick=scale.quick,
        clock=clock,
        expected=sweep.expected,
        points=tuple(points),
        time_exponent=exponent([(point.size, point.seconds) for point in points]),
        memory_exponent=exponent(peaks) if len(peaks) > 1 else None,
    )


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of log y over log x, by least squares over the upper half of the points, at least three.

    Args:
        points: (x, y), both above 0, at least two.
    """
    upper = sorted(points)[-max(3, math.ceil(len(points) / 2)) :]
    xs, ys = ([math.log(pair[axis]) for pair in upper] for axis in (0, 1))
    return statistics.linear_regression(xs, ys).slope
