"""How time and memory grow with one size: the slope of their logarithms over the logarithm of the size.

    exponent = sum (log x - mean log x) (log t - mean log t) / sum (log x - mean log x)^2

An exponent of 1 is linear growth. The largest sizes say most, as a fixed cost hides growth at small ones; so
the line is fitted to the upper half of the points, at least three.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ..report.axis import Axis, Geometry, log_axis
from .clock import peak_mb, seconds_of
from .results import Clock, Curve, Point, seconds_text
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


COLUMNS = 3
PANEL = Geometry(width=300, height=200, left=58, right=288, top=34, bottom=150)


def growth_figure(curves: Sequence[Curve]) -> str:
    """The text of an SVG file: a panel for each curve, at least one, time over size on logarithmic axes.

    The dashed line has the slope of the count of operations and passes through the largest size, so points
    above it at small sizes are fixed costs, and points below it mean that time grows faster than operations.
    """
    columns = min(COLUMNS, max(len(curves), 1))
    width, height = columns * PANEL.width, -(-len(curves) // columns) * PANEL.height
    panels = []
    for number, curve in enumerate(curves):
        down, across = divmod(number, columns)
        panels.append(f'<g transform="translate({across * PANEL.width:g} {down * PANEL.height:g})">')
        panels += [*_panel(curve), "</g>"]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="11" fill="#333333">'
    )
    return "\n".join([head, *panels, "</svg>", ""])


def _panel(curve: Curve) -> Iterator[str]:
    sizes, seconds = [point.size for point in curve.points], [point.seconds for point in curve.points]
    last = curve.points[-1]
    line = [last.seconds * (size / last.size) ** curve.expected for size in sizes]
    x, y = log_axis(sizes), log_axis([*seconds, *line])
    yield f'<text x="{PANEL.left:g}" y="14" font-weight="bold">{escape(curve.name)}</text>'
    yield (
        f'<text x="{PANEL.left:g}" y="27">time to the power of {curve.time_exponent:.2f}, '
        f"operations {curve.expected:g}</text>"
    )
    frame = f"M{PANEL.left:g} {PANEL.top:g}V{PANEL.bottom:g}H{PANEL.right:g}"
    yield f'<path d="{frame}" fill="none" stroke="#888888"/>'
    for size in (sizes[0], sizes[-1]):
        at = PANEL.x(x(size))
        yield f'<text x="{at:.1f}" y="{PANEL.bottom + 14:g}" text-anchor="middle">{size:g}</text>'
    middle = (PANEL.left + PANEL.right) / 2
    yield f'<text x="{middle:g}" y="{PANEL.bottom + 30:g}" text-anchor="middle">{escape(curve.along)}</text>'
    for value in (min(seconds), max(seconds)):
        at = PANEL.y(y(value))
        text = seconds_text(value)
        yield f'<text x="{PANEL.left - 4:g}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    yield f'<path d="{_path(x, y, sizes, line)}" fill="none" stroke="#888888" stroke-dasharray="4 3"/>'
    yield f'<path d="{_path(x, y, sizes, seconds)}" fill="none" stroke="#4477aa" stroke-width="1.5"/>'
    for size, value in zip(sizes, seconds, strict=True):
        yield f'<circle cx="{PANEL.x(x(size)):.1f}" cy="{PANEL.y(y(value)):.1f}" r="3" fill="#4477aa"/>'


def _path(x: Axis, y: Axis, sizes: Sequence[float], values: Sequence[float]) -> str:
    places = [
        f"{PANEL.x(x(size)):.1f} {PANEL.y(y(value)):.1f}" for size, value in zip(sizes, values, strict=True)
    ]
    return "M" + "L".join(places)
