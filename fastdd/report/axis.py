"""Axes, which turn values into positions in a figure, and the geometry of a panel.

    linear  t = (v - low) / (high - low)            log  t = (log v - log low) / (log high - log low)

The position t is a fraction of the axis, 0 at its low end and 1 at its high end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ..config.naming import value_text

MARGIN = 0.04
"""empty share of the span at each end, so that no marker sits on the frame"""


@dataclass(frozen=True)
class Geometry:
    """Size of a panel and of the frame inside it, in units of its viewBox; y points down."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    def x(self, fraction: float) -> float:
        """Horizontal position of a fraction of the axis across."""
        return self.left + fraction * (self.right - self.left)

    def y(self, fraction: float) -> float:
        """Vertical position of a fraction of the upright axis."""
        return self.bottom - fraction * (self.bottom - self.top)

    def x_ticks(self, axis: Axis) -> list[tuple[float, str]]:
        """(position, text) of each tick of the axis across."""
        return [(round(self.x(fraction), 1), text) for fraction, text in axis.ticks]

    def y_ticks(self, axis: Axis) -> list[tuple[float, str]]:
        """(position, text) of each tick of the upright axis."""
        return [(round(self.y(fraction), 1), text) for fraction, text in axis.ticks]


@dataclass(frozen=True)
class Axis:
    """An axis from low to high.

    Attributes:
        ticks: (fraction, label) of each tick.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """Fraction of the axis at a value; below 0 or above 1 for values outside the axis."""
        return _fraction(value, self.low, self.high, log=self.log)


def _fraction(value: float, low: float, high: float, *, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def linear_axis(values: Sequence[float], ticks: int = 5, from_zero: bool = False) -> Axis:
    """A linear axis that holds all values, with ticks at multiples of 1, 2 or 5 times a power of ten.

    Args:
        values: at least one.
        from_zero: whether the axis begins at exactly zero, as bars need it; values are then at least 0.
    """
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high - low < 1e-9 * max(abs(high), 1e-3):
        if from_zero:
            high = high or 1.0
        else:
            low, high = low - 0.05 * (abs(low) or 1.0), high + 0.05 * (abs(high) or 1.0)
    margin = MARGIN * (high - low)
    low, high = (low if from_zero else low - margin), high + margin
    step = _round_step((high - low) / ticks)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = [i * step for i in range(first, last + 1)]
    labels = [f"{value:,.{decimals}f}".replace("-", "−") for value in marks]
    places = [_fraction(value, low, high, log=False) for value in marks]
    return Axis(low, high, tuple(zip(places, labels, strict=True)))


def _round_step(step: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def log_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis over the positive values, one to six decades long.

    Values below its low end, such as zero, are left out.
    """
    positive = [v for v in values if v > 0] or [1.0]
    high = max(positive) * 1.3
    low = min(max(min(positive) / 1.3, max(positive) * 1e-6), high / 10)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / 5))
    powers = [10.0**e for e in range(first, last + 1, every)]
    if len(powers) > 1:
        marks = powers
    else:
        marks = [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)]
    inside = [value for value in marks if low <= value <= high]
    ticks = tuple((_fraction(value, low, high, log=True), f"{value:g}") for value in inside)
    return Axis(low, high, ticks, log=True)


FIRST, LAST = 0.05, 0.95
"""places of the lowest and the highest value, as fractions of the axis"""
AFTER_ZERO = 0.24
"""place of the lowest positive value where zero stands beyond a break"""
DECADE = 10.0


@dataclass(frozen=True)
class GridAxis:
    """The values of a key and their places.

    Attributes:
        values: the key's values, from left to right.
        places: the place of each value, as a fraction of the axis.
        numbers: whether the values are numbers, so that a line may join their results.
        broken: place of the break between zero and the other values; None: the axis has no break.
    """

    values: tuple[JsonValue, ...]
    places: tuple[float, ...]
    numbers: bool
    broken: float | None

    def __call__(self, value: JsonValue) -> float:
        """The place of a value of the grid."""
        return self.places[self.values.index(value)]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of every value."""
        return [(place, value_text(value)) for place, value in zip(self.places, self.values, strict=True)]


def grid_axis(values: Sequence[JsonValue], log: bool = False) -> GridAxis:
    """The axis of a swept key, with a place for each of its values, at least one and each given once.

    Numbers lie on a linear axis, or on a logarithmic one where they span more than a decade and none is
    negative. Zero, which has no logarithm, then stands at the left, beyond a break in the axis. Other values,
    such as words, are spaced evenly in the order of the grid.

    Args:
        log: positive numbers lie on a logarithmic axis, however little they span.
    """
    ordered = sorted(
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    )
    if len(ordered) < len(values):
        step = 1 / len(values)
        places = tuple((n + 0.5) * step for n in range(len(values)))
        return GridAxis(tuple(values), places, numbers=False, broken=None)
    positive = [value for value in ordered if value > 0]
    near = not log and bool(positive) and positive[-1] <= DECADE * positive[0]
    if ordered[0] < 0 or len(positive) < 2 or near:
        return GridAxis(tuple(ordered), tuple(_places(ordered, FIRST)), numbers=True, broken=None)
    logarithms = [math.log(value) for value in positive]
    if len(positive) == len(ordered):
        return GridAxis(tuple(ordered), tuple(_places(logarithms, FIRST)), numbers=True, broken=None)
    places = (FIRST, *_places(logarithms, AFTER_ZERO))
    return GridAxis(tuple(ordered), places, numbers=True, broken=(FIRST + AFTER_ZERO) / 2)


def _places(positions: Sequence[float], first: float) -> list[float]:
    """Places from ``first`` to LAST, in proportion to rising positions; a single one is in the middle."""
    low, high = positions[0], positions[-1]
    if low == high:
        return [0.5]
    return [first + (LAST - first) * (position - low) / (high - low) for position in positions]
