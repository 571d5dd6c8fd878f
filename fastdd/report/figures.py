"""What the figures draw: positions computed from a run, in percent of a plot's width or in panel coordinates.

Bars and dots are placed in percent, so that a plot stretches with the page while its text keeps its size;
curves live in panels of 360 x 230. The template turns both into SVG.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config.terms import term_labels
from .axis import Axis, linear_axis, log_axis
from .folder import Arm, Run, WholeSet

PANEL_WIDTH, PANEL_HEIGHT = 360.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 292.0, 10.0, 200.0  # the frame inside a panel; line labels stand right of it
LABEL_GAP = 13.0


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation over seeds; 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean(values: Sequence[float]) -> float:
    return statistics.mean(values)


@dataclass(frozen=True)
class Marks:
    """The students of one set: positions in percent of the axis, accuracies in percent."""

    dots: list[float]
    whisker: tuple[float, float]
    mean: float
    value: float
    spread: float


@dataclass(frozen=True)
class AccuracyRow:
    """An arm."""

    arm: Arm
    marks: Marks
    bar: tuple[float, float]
    """start and width in percent of the axis, from the control to the mean"""
    gain: float
    """points above the control"""


@dataclass(frozen=True)
class AccuracyFigure:
    axis: Axis
    control: float
    rows: list[AccuracyRow]
    whole: tuple[WholeSet, Marks] | None


def accuracy_figure(run: Run) -> AccuracyFigure:
    """Last accuracy of every arm, with bars from the control's mean to the arm's; and of the whole training set."""
    scores = [[100 * float(v) for v in arm.metrics["last"]] for arm in run.arms]
    above = [[100 * v for v in run.whole.last]] if run.whole else []
    ends = [mean(s) + sign * spread(s) for s in scores + above for sign in (-1, 1)]
    axis = linear_axis([v for s in scores + above for v in s] + ends)
    reference = mean(scores[0])
    rows = []
    for arm, values in zip(run.arms, scores, strict=True):
        marks = _marks(values, axis)
        start, end = sorted((100 * axis(reference), marks.mean))
        rows.append(AccuracyRow(arm, marks, (start, end - start), marks.value - reference))
    whole = (run.whole, _marks(above[0], axis)) if run.whole else None
    return AccuracyFigure(axis, 100 * axis(reference), rows, whole)


def _marks(scores: Sequence[float], axis: Axis) -> Marks:
    value, deviation = mean(scores), spread(scores)
    whisker = (100 * axis(value - deviation), 100 * axis(value + deviation))
    return Marks([100 * axis(score) for score in scores], whisker, 100 * axis(value), value, deviation)


@dataclass(frozen=True)
class ClassDots:
    """One quantity by class: rows of (class, [(arm, percent)])."""

    title: str
    axis: Axis
    rows: list[tuple[str, list[tuple[Arm, float]]]]


def class_dots(run: Run, key: str, title: str) -> ClassDots:
    """A metric by class, such as ``cosine_by_class``, for the shown classes."""
    count = len(run.shown_classes)
    axis = linear_axis([float(v) for arm in run.arms for v in arm.metrics[key][:count]])
    rows = [
        (name, [(arm, 100 * axis(float(arm.metrics[key][i]))) for arm in run.arms])
        for i, name in enumerate(run.shown_classes)
    ]
    return ClassDots(title, axis, rows)


@dataclass(frozen=True)
class LossLine:
    """One term's curve: an SVG path, and where its label stands."""

    term: str
    color: int
    path: str
    label_y: float


@dataclass(frozen=True)
class LossFigure:
    """One panel an arm on the same axes; ticks are (position, label)."""

    panels: list[tuple[Arm, list[LossLine]]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    terms: list[tuple[str, str]]
    """(term, what it is) of those drawn"""
    hidden: bool
    """whether values at or below the low end, zero and negative ones among them, are left out"""


def loss_figure(run: Run) -> LossFigure | None:
    """Loss curves of the arms that recorded any; None where no arm did."""
    arms = [arm for arm in run.arms if any(arm.losses.values())]
    if not arms:
        return None
    points = [point for arm in arms for curve in arm.losses.values() for point in curve]
    x = linear_axis([step for step, _ in points], ticks=4, from_zero=True)
    y = log_axis([value for _, value in points])
    terms = list(dict.fromkeys(term for arm in arms for term in arm.losses))
    names = term_labels()
    return LossFigure(
        [(arm, _lines(arm, terms, x, y)) for arm in arms],
        [(round(LEFT + t * (RIGHT - LEFT), 1), label) for t, label in x.ticks],
        [(round(BOTTOM - t * (BOTTOM - TOP), 1), label) for t, label in y.ticks],
        [(term, names.get(term, term)) for term in terms],
        any(value < y.low for _, value in points),
    )


def _lines(arm: Arm, terms: Sequence[str], x: Axis, y: Axis) -> list[LossLine]:
    lines, ends = [], []
    for term, curve in arm.losses.items():
        path, pen = [], "M"
        end = BOTTOM
        for step, value in curve:
            if value < y.low:
                pen = "M"
                continue
            end = BOTTOM - y(value) * (BOTTOM - TOP)
            # the "h0" lets a curve of a single point show as a dot
            path.append(
                f"{pen}{LEFT + x(step) * (RIGHT - LEFT):.1f} {end:.1f}" + ("h0" if pen == "M" else "")
            )
            pen = "L"
        if path:
            lines.append((term, "".join(path)))
            ends.append(end)
    return [
        LossLine(term, terms.index(term), path, round(label, 1))
        for (term, path), label in zip(lines, _apart(ends, LABEL_GAP, TOP, BOTTOM), strict=True)
    ]


def _apart(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved to be at least gap apart, in their order, and inside low to high if they fit."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    moved = [positions[i] for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    limit = high
    for i in range(len(moved) - 1, -1, -1):
        moved[i] = max(min(moved[i], limit), low + i * gap)
        limit = moved[i] - gap
    return [value for _, value in sorted(zip(order, moved, strict=True))]


@dataclass(frozen=True)
class StageRow:
    name: str
    bar: float
    """percent of the longest"""
    seconds: float
    rate: float | None
    """images (recover: image-iterations) a second"""


def stage_rows(stages: dict[str, dict[str, Any]]) -> list[StageRow]:
    """Stages in the order they ran; the report's own time is not known while it is written."""
    timed = {name: stage for name, stage in stages.items() if name != "report"}
    longest = max((float(stage["seconds"]) for stage in timed.values()), default=0.0) or 1.0
    rows = []
    for name, stage in timed.items():
        seconds, images = float(stage["seconds"]), stage.get("images") or 0
        rows.append(
            StageRow(name, 100 * seconds / longest, seconds, images / seconds if images and seconds else None)
        )
    return rows
