"""Times, floors and growth in words."""

from __future__ import annotations

from .results import Curve

STEEPER = 0.2
"""an exponent this much above the expected one is called steeper"""


def seconds_text(seconds: float) -> str:
    """Three figures with a unit: ``19.4 ms``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError("the last unit takes any time")


def floor_text(floor: float, seconds: float) -> str:
    """How far ours is from the floor: ``ours takes 2.1 times that``."""
    return f"ours takes {seconds / floor:.2g} times that"


def curve_text(curve: Curve) -> str:
    """The exponents of a curve, and whether time grows faster than operations do."""
    verdict = ", steeper than that" if curve.time_exponent > curve.expected + STEEPER else ""
    memory = "" if curve.memory_exponent is None else f"; memory as the {curve.memory_exponent:.2f}th"
    return (
        f"time grows as the {curve.time_exponent:.2f}th power of {curve.along}{memory} "
        f"(operations: {curve.expected:g}{verdict})"
    )
