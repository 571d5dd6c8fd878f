"""Axes: from values to positions in a figure, linear or logarithmic, with round ticks.

    linear  t = (v - low) / (high - low)            log  t = (log v - log low) / (log high - log low)

Positions are fractions of the axis, 0 at its low end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MARGIN = 0.04  # of the span, so that no marker sits on the frame


@dataclass(frozen=True)
class Axis:
    """An axis from low to high; ticks are (fraction, label)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """Fraction of the axis at a value; values outside land outside 0 to 1."""
        return _fraction(value, self.low, self.high, self.log)


def _fraction(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def linear_axis(values: Sequence[float], ticks: int = 5, from_zero: bool = False) -> Axis:
    """An axis that holds all values, with about ``ticks`` ticks at 1, 2 or 5 times a power of ten.

    Args:
        from_zero: begin at exactly zero, as bars must; values are then >= 0.
    """
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high - low < 1e-9 * max(abs(high), 1e-3):
        low, high = (
            (0.0, high or 1.0)
            if from_zero
            else (low - 0.05 * (abs(low) or 1.0), high + 0.05 * (abs(high) or 1.0))
        )
    margin = MARGIN * (high - low)
    low, high = (low if from_zero else low - margin), high + margin
    step = _round_step((high - low) / ticks)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = [i * step for i in range(first, last + 1)]
    return Axis(
        low,
        high,
        tuple((_fraction(v, low, high, False), f"{v:,.{decimals}f}".replace("-", "−")) for v in marks),
    )


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def log_axis(values: Sequence[float], decades: int = 6) -> Axis:
    """A logarithmic axis over the positive values, one decade to ``decades`` long: smaller values fall off it."""
    positive = [v for v in values if v > 0] or [1.0]
    high = max(positive) * 1.3
    low = min(max(min(positive) / 1.3, max(positive) * 10.0**-decades), high / 10)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / 5))
    powers = [10.0**e for e in range(first, last + 1, every)]
    marks = (
        powers if len(powers) > 1 else [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)]
    )
    inside = [v for v in marks if low <= v <= high]
    return Axis(low, high, tuple((_fraction(v, low, high, True), f"{v:g}") for v in inside), log=True)
