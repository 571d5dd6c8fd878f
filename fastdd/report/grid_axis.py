"""The axis of a swept key, which has a place for each of the key's values.

Numbers lie on a linear axis, or on a logarithmic one where they span more than a decade and none is negative.
Zero, which has no logarithm, then stands at the left, beyond a break in the axis. Other values, such as
words, are spaced evenly in the order of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ..config.naming import value_text

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
    """The axis of at least one value, each given once.

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
