"""The figure of experts: test accuracy after each epoch, one line an expert."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .axis import linear_axis
from .figures import PANEL


@dataclass(frozen=True)
class ExpertFigure:
    """Accuracy by epoch.

    Attributes:
        x_ticks, y_ticks: (position, text) of each tick.
        epochs: epochs that they were trained.
        last: mean accuracy after the last epoch, in percent.
    """

    paths: list[str]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    experts: int
    epochs: int
    last: float


def expert_figure(accuracies: Sequence[Sequence[float]]) -> ExpertFigure | None:
    """The figure of the experts that a run trained; None where it trained none.

    Args:
        accuracies: of each expert after each epoch from 0, a fraction.
    """
    if not accuracies:
        return None
    epochs = len(accuracies[0]) - 1
    x = linear_axis([0.0, float(epochs)], ticks=4, from_zero=True)
    y = linear_axis([100 * value for each in accuracies for value in each])
    paths = []
    for each in accuracies:
        points = [
            f"{PANEL.x(x(epoch)):.1f} {PANEL.y(y(100 * value)):.1f}" for epoch, value in enumerate(each)
        ]
        paths.append("M" + "L".join(points))
    return ExpertFigure(
        paths,
        x_ticks=PANEL.x_ticks(x),
        y_ticks=PANEL.y_ticks(y),
        experts=len(accuracies),
        epochs=epochs,
        last=100 * statistics.mean(each[-1] for each in accuracies),
    )
