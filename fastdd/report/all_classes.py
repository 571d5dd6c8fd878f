"""Diversity of every class, for runs with more classes than the page names: a curve for each arm.

The classes are in the order of the control's values, so its curve rises; DiRe's Figure 2 is the cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..run_folder import ArmResult
from .axis import Geometry, linear_axis
from .finished_run import FinishedArm, FinishedRun

PANEL = Geometry(width=560.0, height=250.0, left=46.0, right=550.0, top=10.0, bottom=220.0)


@dataclass(frozen=True)
class AllClasses:
    """A metric of every class.

    Attributes:
        title: name of the metric, with an arrow to the better side.
        y_ticks: (y, label) of its axis.
        lines: each arm and the path of its curve.
    """

    title: str
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[FinishedArm, str]]
    count: int


def all_classes(run: FinishedRun, by_class: Callable[[ArmResult], Sequence[float]], title: str) -> AllClasses:
    """The figure of one metric of every class.

    Args:
        by_class: the metric of one arm, a value for each class.
        title: name of the metric, with an arrow to the better side.
    """
    values = [by_class(arm.result) for arm in run.arms]
    order = sorted(range(len(values[0])), key=lambda c: values[0][c])
    axis = linear_axis([value for each in values for value in each])
    step = (PANEL.right - PANEL.left) / max(1, len(order) - 1)
    lines = []
    for arm, each in zip(run.arms, values, strict=True):
        points = (f"{PANEL.left + step * i:.1f} {PANEL.y(axis(each[c])):.1f}" for i, c in enumerate(order))
        lines.append((arm, "M" + "L".join(points)))
    return AllClasses(title, PANEL.y_ticks(axis), lines=lines, count=len(order))
