"""What the figures of the page draw: positions, computed from a run.

Bars and dots have positions in percent of the plot's width, so that a plot stretches with the page while its
text keeps its size. Curves have positions in a panel of 360 x 230. The template turns both into SVG.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..config import CONTROL, FULL
from ..config.terms import term_labels
from ..run_folder import ArmResult, FullSetResult
from ..run_folder.comparison import Fractions, difference, difference_text, diverged_text, of_all
from ..run_folder.results import StageWork
from .axis import Axis, Geometry, linear_axis, log_axis
from .finished_run import FinishedArm, FinishedRun

PANEL = Geometry(width=360.0, height=230.0, left=46.0, right=292.0, top=10.0, bottom=200.0)
"""panel of the loss curves, whose labels stand right of the frame"""
WIDE_PANEL = Geometry(width=560.0, height=250.0, left=46.0, right=550.0, top=10.0, bottom=220.0)
"""panel of the diversity of all classes"""
LABEL_GAP = 13.0
"""least distance between two labels of curves"""


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation over seeds; 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean(values: Sequence[float]) -> float:
    """Mean over seeds."""
    return statistics.mean(values)


def in_percent(fractions: Sequence[float]) -> list[float]:
    """Accuracies in percent."""
    return [100 * fraction for fraction in fractions]


def scatter(accuracies: Fractions) -> str:
    """± and the standard deviation over seeds in percent; empty for one seed or where a student diverged."""
    fractions = of_all(accuracies) or []
    return f"± {100 * spread(fractions):.1f}" if len(fractions) > 1 else ""


def gain_text(accuracies: Fractions, control: Fractions) -> str:
    """Points above the control with their interval; empty where one of the two has no accuracy."""
    found = difference(accuracies, control)
    return "" if found is None else difference_text(found).replace("-", "−")


def accuracy_text(accuracies: Fractions) -> str:
    """The mean over seeds in percent, or how many students diverged where some did."""
    fractions = of_all(accuracies)
    return diverged_text(accuracies) if fractions is None else f"{100 * mean(fractions):.1f}"


@dataclass(frozen=True)
class Marks:
    """The students of one set.

    Attributes:
        dots: place of each student's accuracy, in percent of the axis.
        whisker: places of one standard deviation below and above the mean.
        value, spread: mean and standard deviation of the accuracies, in percent.
    """

    dots: list[float]
    whisker: tuple[float, float]
    mean: float
    value: float
    spread: float


@dataclass(frozen=True)
class AccuracyRow:
    """An arm in the figure of accuracies.

    Attributes:
        marks: its students; None: some diverged.
        diverged: how many diverged; empty: none did.
        bar: start and width of the bar between the control's mean and the arm's, in percent of the axis;
            None: one of the two has no mean.
        gain: percentage points above the control; None likewise.
    """

    arm: FinishedArm
    marks: Marks | None
    diverged: str
    bar: tuple[float, float] | None = None
    gain: float | None = None


@dataclass(frozen=True)
class AccuracyFigure:
    """Accuracies of all arms.

    Attributes:
        control: place of the control's mean in percent of the axis; None: it has none.
        full_set: the whole training set, its students, None where some diverged, and how many did. None: it
            was left out.
    """

    axis: Axis
    control: float | None
    rows: list[AccuracyRow]
    full_set: tuple[FullSetResult, Marks | None, str] | None


def accuracy_figure(run: FinishedRun, student: str = "") -> AccuracyFigure:
    """Accuracy after the last step of every arm, with a bar from the control's, and of the full set.

    Args:
        student: name of the kind of students, in ``run.students``; the figures of all have the same axis.
    """
    every = [of_all(last) for name in run.students for last in run.metrics.last(name).values()]
    measured = [in_percent(fractions) for fractions in every if fractions is not None]
    ends = [mean(each) + sign * spread(each) for each in measured for sign in (-1, 1)]
    values = [value for each in measured for value in each] + ends
    axis = linear_axis(values or [0.0, 100.0])
    last = run.metrics.last(student)
    rows, reference = [], _marks(last[CONTROL], axis)
    for arm in run.arms:
        if arm.key not in last:  # these students do not learn from it
            continue
        row = AccuracyRow(arm, _marks(last[arm.key], axis), diverged_text(last[arm.key]))
        if row.marks is not None and reference is not None:
            start, end = sorted((reference.mean, row.marks.mean))
            row = replace(row, bar=(start, end - start), gain=row.marks.value - reference.value)
        rows.append(row)
    full_set, reached = run.metrics.full_set, None
    if full_set is not None:
        reached = (full_set, _marks(last[FULL], axis), diverged_text(last[FULL]))
    control = None if reference is None else reference.mean
    return AccuracyFigure(axis, control=control, rows=rows, full_set=reached)


def _marks(accuracies: Fractions, axis: Axis) -> Marks | None:
    """The students of a set; None: some diverged."""
    if (fractions := of_all(accuracies)) is None:
        return None
    scores = in_percent(fractions)
    value, deviation = mean(scores), spread(scores)
    return Marks(
        dots=[100 * axis(score) for score in scores],
        whisker=(100 * axis(value - deviation), 100 * axis(value + deviation)),
        mean=100 * axis(value),
        value=value,
        spread=deviation,
    )


@dataclass(frozen=True)
class ClassDots:
    """One metric by class: a row for each class, with each arm's place in percent of the axis."""

    title: str
    axis: Axis
    rows: list[tuple[str, list[tuple[FinishedArm, float]]]]


def class_dots(run: FinishedRun, by_class: Callable[[ArmResult], Sequence[float]], title: str) -> ClassDots:
    """The figure of one metric by class, for the shown classes.

    Args:
        by_class: the metric of one arm, a value for each class.
        title: name of the metric, with an arrow to the better side.
    """
    values = [by_class(arm.result)[: len(run.shown_classes)] for arm in run.arms]
    axis = linear_axis([value for each in values for value in each])
    rows = []
    for name, of_class in zip(run.shown_classes, zip(*values, strict=True), strict=True):
        dots = [(arm, 100 * axis(value)) for arm, value in zip(run.arms, of_class, strict=True)]
        rows.append((name, dots))
    return ClassDots(title, axis, rows)


@dataclass(frozen=True)
class LossLine:
    """The curve of one term.

    Attributes:
        color: place of the term among those of the figure.
    """

    term: str
    color: int
    path: str
    label_y: float


@dataclass(frozen=True)
class LossFigure:
    """Loss curves: a panel for each arm, on the same axes.

    Attributes:
        panels: each arm with its curves.
        x_ticks, y_ticks: (position, text) of each tick.
        terms: key and name of each term that is drawn.
        hidden: whether values are left out because they lie below the axis, as zero and negative ones do.
    """

    panels: list[tuple[FinishedArm, list[LossLine]]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    terms: list[tuple[str, str]]
    hidden: bool


def loss_figure(run: FinishedRun) -> LossFigure | None:
    """Loss curves of the arms that recorded losses; None where no arm did."""
    arms = [arm for arm in run.arms if any(arm.losses.values())]
    if not arms:
        return None
    points = [point for arm in arms for curve in arm.losses.values() for point in curve]
    x = linear_axis([step for step, _ in points], ticks=4, from_zero=True)
    y = log_axis([value for _, value in points])
    terms = list(dict.fromkeys(term for arm in arms for term in arm.losses))
    names = term_labels()
    return LossFigure(
        panels=[(arm, _lines(arm, terms, x, y)) for arm in arms],
        x_ticks=PANEL.x_ticks(x),
        y_ticks=PANEL.y_ticks(y),
        terms=[(term, names.get(term, term)) for term in terms],
        hidden=any(value < y.low for _, value in points),
    )


def _lines(arm: FinishedArm, terms: Sequence[str], x: Axis, y: Axis) -> list[LossLine]:
    lines, ends = [], []
    for term, curve in arm.losses.items():
        path, pen = [], "M"
        end = PANEL.bottom
        for step, value in curve:
            if value < y.low:
                pen = "M"
                continue
            end = PANEL.y(y(value))
            dot = (
                "h0" if pen == "M" else ""
            )  # a line of length 0 lets a curve of a single point show as a dot
            path.append(f"{pen}{PANEL.x(x(step)):.1f} {end:.1f}{dot}")
            pen = "L"
        if path:
            lines.append((term, "".join(path)))
            ends.append(end)
    labels = apart(ends, LABEL_GAP, low=PANEL.top, high=PANEL.bottom)
    return [
        LossLine(term, color=terms.index(term), path=path, label_y=round(label, 1))
        for (term, path), label in zip(lines, labels, strict=True)
    ]


def apart(positions: Sequence[float], gap: float, *, low: float, high: float) -> list[float]:
    """Positions in their order, at least ``gap`` apart, and inside low to high if they fit."""
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
    """A stage in the figure of times.

    Attributes:
        bar: its seconds in percent of the longest stage's.
        rate: images a second, of recover image-iterations; None: the stage sees no images.
    """

    name: str
    bar: float
    seconds: float
    rate: float | None


def stage_rows(stages: Mapping[str, StageWork]) -> list[StageRow]:
    """Stages in their order, without the report, whose time is not known while it is written."""
    timed = {name: stage for name, stage in stages.items() if name != "report"}
    longest = max((stage.seconds for stage in timed.values()), default=0.0) or 1.0
    rows = []
    for name, stage in timed.items():
        rate = stage.images / stage.seconds if stage.images and stage.seconds else None
        rows.append(StageRow(name, bar=100 * stage.seconds / longest, seconds=stage.seconds, rate=rate))
    return rows


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
    """One metric of every class, a curve an arm, for runs with more classes than the page names.

    The classes are in the order of the control's values, so its curve rises; DiRe's Figure 2 is the cosine.

    Args:
        by_class: the metric of one arm, a value for each class.
        title: name of the metric, with an arrow to the better side.
    """
    values = [by_class(arm.result) for arm in run.arms]
    order = sorted(range(len(values[0])), key=lambda c: values[0][c])
    axis = linear_axis([value for each in values for value in each])
    step = (WIDE_PANEL.right - WIDE_PANEL.left) / max(1, len(order) - 1)
    lines = []
    for arm, each in zip(run.arms, values, strict=True):
        heights = (WIDE_PANEL.y(axis(each[c])) for c in order)
        points = (f"{WIDE_PANEL.left + step * i:.1f} {height:.1f}" for i, height in enumerate(heights))
        lines.append((arm, "M" + "L".join(points)))
    return AllClasses(title, WIDE_PANEL.y_ticks(axis), lines=lines, count=len(order))


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
