"""The axis of a swept key: a place for each of its values, and for nothing between them.

Numbers lie on a line, or on a logarithm where they span more than a decade and none is negative; zero, which has no
logarithm, then stands by itself at the left, beyond a break. Other values are spaced evenly in the order of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config.naming import shown

FIRST, LAST = 0.05, 0.95
"""places of the lowest and the highest value, as parts of the axis"""
AFTER_ZERO = 0.24
"""place of the lowest value beyond the break"""
DECADE = 10.0


@dataclass(frozen=True)
class GridAxis:
    """Places of values.

    Attributes:
        values: of the key, from left to right.
        places: of the values, as parts of the axis.
        numbers: whether what lies between two values means something, so that a curve may join them.
        broken: where the axis is broken between zero and the other values; None where it is not.
    """

    values: tuple[Any, ...]
    places: tuple[float, ...]
    numbers: bool
    broken: float | None

    def __call__(self, value: Any) -> float:
        """Place of a value of the grid."""
        return self.places[self.values.index(value)]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of every value."""
        return [(place, shown(value)) for place, value in zip(self.places, self.values, strict=True)]


def grid_axis(values: Sequence[Any]) -> GridAxis:
    """The axis of values, each given once, at least one."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        slot = 1 / len(values)
        return GridAxis(tuple(values), tuple((n + 0.5) * slot for n in range(len(values))), False, None)
    ordered = sorted(values)
    positive = [value for value in ordered if value > 0]
    if ordered[0] < 0 or len(positive) < 2 or positive[-1] <= DECADE * positive[0]:
        return GridAxis(tuple(ordered), tuple(_spread(ordered, FIRST)), True, None)
    if len(positive) == len(ordered):
        return GridAxis(tuple(ordered), tuple(_spread([math.log(v) for v in positive], FIRST)), True, None)
    places = (FIRST, *_spread([math.log(v) for v in positive], AFTER_ZERO))
    return GridAxis(tuple(ordered), places, True, (FIRST + AFTER_ZERO) / 2)


def _spread(positions: Sequence[float], first: float) -> list[float]:
    """Places from first to LAST, in proportion; a single one stands in the middle."""
    low, high = positions[0], positions[-1]
    if low == high:
        return [0.5]
    return [first + (LAST - first) * (position - low) / (high - low) for position in positions]
