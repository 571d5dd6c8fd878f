"""Accuracy against the value of a swept key: the figure of ``fastdd sweep``, on the page and in a file of its own.

The first key of the grid goes across; every combination of an arm and the values of the methods' other keys is a line.
Runs that differ in further keys of their own, such as ``ipc``, have panels of their own, because their controls differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.naming import described, tails
from . import sweep_figure as geometry
from .axis import Axis, linear_axis
from .figures import mean, spread
from .grid_axis import GridAxis, grid_axis
from .templates import environment

PANEL_WIDTH, PANEL_HEIGHT = 440.0, 272.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 432.0, 10.0, 222.0  # the frame inside a panel
SLANTED = 44.0  # more height, where the values are too long to stand side by side
LETTERS, LETTER, GAP = (
    16,
    6.2,
    6.0,
)  # of the text under the axis: most of a slanted one, width of one, between two
APART = 9.0  # between the markers of two lines at a value that is no number


@dataclass(frozen=True)
class SweptSet:
    """A set of a run.

    Attributes:
        title: of the recipe's arm.
        at: the keys of the grid that it was made or judged with, the run's own among them, and their values.
        last: accuracies of the seeds, as fractions.
    """

    title: str
    at: Mapping[str, Any]
    last: Sequence[float]


@dataclass(frozen=True)
class SweptRun:
    """A run: the keys of the grid that are its own, its control's accuracies, and its sets."""

    at: Mapping[str, Any]
    control: Sequence[float]
    sets: Sequence[SweptSet]


@dataclass(frozen=True)
class Mark:
    """A set in panel coordinates: its mean, one standard deviation up and down, and all that in words."""

    x: float
    y: float
    high: float
    low: float
    text: str


@dataclass(frozen=True)
class Line:
    """An arm under one choice of the other keys.

    Attributes:
        index: from 1; picks color and marker.
        path: joins the marks; straight across for an arm that the key does not concern; empty between words.
        level: whether the arm is such a one.
    """

    index: int
    label: str
    marks: list[Mark]
    path: str
    level: bool
    control: bool = False


@dataclass(frozen=True)
class Panel:
    """Runs that differ in the key across alone: paths of the control's mean and deviation, and the lines."""

    title: str
    control: str
    band: str
    lines: list[Line]


@dataclass(frozen=True)
class SweepFigure:
    """Panels on the same axes; ticks are (position, text), and a text that has no room is empty."""

    panels: list[Panel]
    legend: list[Line]
    key: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    broken: float | None
    """where the axis is broken, between zero and the logarithmic part"""
    slanted: bool
    height: float


def accuracy_by_key(runs: Sequence[SweptRun], keys: Sequence[str]) -> SweepFigure:
    """The figure of a sweep.

    Args:
        runs: in the order of the grid; their sets may include some that were not swept.
        keys: of the grid in its order, at least one; the first goes across.
    """
    sets = [each for run in runs for each in run.sets]
    x = grid_axis(_once(each.at[keys[0]] for each in sets if keys[0] in each.at))
    y = linear_axis(
        [end for run in runs for last in (run.control, *(s.last for s in run.sets)) for end in _ends(last)]
    )
    frame = _Frame(keys[0], tails(keys), frozenset(runs[0].at), x, y)
    labels = _once(map(frame.label, sets))
    panels = [
        frame.panel(title, [run for run in runs if frame.title(run) == title], labels)
        for title in _once(map(frame.title, runs))
    ]
    texts, slanted = _texts(x)
    return SweepFigure(
        panels,
        [Line(1 + n, label, [], "", False) for n, label in enumerate(labels)],
        frame.names[keys[0]],
        [(_across(place), text) for place, text in zip(x.places, texts, strict=True)],
        [(_down(place), text) for place, text in y.ticks],
        None if x.broken is None else _across(x.broken),
        slanted,
        PANEL_HEIGHT + (SLANTED if slanted else 0.0),
    )


def _once(items: Iterable[Any]) -> list[Any]:
    """Different items in their order; some, as lists, have no hash."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _ends(last: Sequence[float]) -> tuple[float, float]:
    """One deviation below and above the mean, in percent."""
    values = [100 * float(value) for value in last]
    return mean(values) - spread(values), mean(values) + spread(values)


def _across(place: float) -> float:
    return round(LEFT + place * (RIGHT - LEFT), 1)


def _down(place: float) -> float:
    return round(BOTTOM - place * (BOTTOM - TOP), 1)


@dataclass(frozen=True)
class _Frame:
    """What all panels share: the key across, short names of all keys, which of them are the runs', and the axes."""

    key: str
    names: Mapping[str, str]
    of_runs: frozenset[str]
    x: GridAxis
    y: Axis

    def title(self, run: SweptRun) -> str:
        return described({key: value for key, value in run.at.items() if key != self.key}, self.names)

    def label(self, each: SweptSet) -> str:
        """The arm and what else was set for it; the runs' keys stand over the panels."""
        rest = {key: value for key, value in each.at.items() if key not in (self.key, *self.of_runs)}
        return ", ".join(part for part in (each.title, described(rest, self.names)) if part)

    def panel(self, title: str, runs: Sequence[SweptRun], labels: Sequence[str]) -> Panel:
        sets = [each for run in runs for each in run.sets]
        lines = []
        for number, label in enumerate(labels):
            if own := [each for each in sets if self.label(each) == label]:
                lines.append(self.line(number, len(labels), label, own))
        return Panel(title, *self.control(runs), lines)

    def line(self, number: int, count: int, label: str, sets: Sequence[SweptSet]) -> Line:
        """The line of one label of count."""
        level = self.key not in sets[0].at
        slot = (RIGHT - LEFT) / len(self.x.values)
        aside = 0.0 if self.x.numbers else (number - (count - 1) / 2) * min(APART, slot / (count + 1))
        marks = [self.mark(each, label, aside) for each in sets]
        marks.sort(key=lambda mark: mark.x)
        path = ""
        if level:
            path = f"M{LEFT} {marks[0].y}H{RIGHT}"
        elif self.x.numbers and len(marks) > 1:
            path = "M" + "L".join(f"{mark.x} {mark.y}" for mark in marks)
        return Line(1 + number, label, marks, path, level)

    def mark(self, each: SweptSet, label: str, aside: float) -> Mark:
        low, high = _ends(each.last)
        middle = (low + high) / 2
        where, x = "", RIGHT - GAP
        if self.key in each.at:
            where, x = f", {described({self.key: each.at[self.key]}, self.names)}", self.spot(each.at) + aside
        deviation = f" ± {high - middle:.1f}" if len(each.last) > 1 else ""
        text = f"{label}{where}: {middle:.1f}{deviation} %"
        return Mark(round(x, 1), _down(self.y(middle)), _down(self.y(high)), _down(self.y(low)), text)

    def spot(self, at: Mapping[str, Any]) -> float:
        return _across(self.x(at[self.key]))

    def control(self, runs: Sequence[SweptRun]) -> tuple[str, str]:
        """Paths of the control's mean and deviation: level, from run to run, or about each value that is no number."""
        spans = [(LEFT, RIGHT, runs[0].control)]
        if self.key in self.of_runs:
            half = 0.0 if self.x.numbers else 0.4 * (RIGHT - LEFT) / len(self.x.values)
            spans = sorted(
                ((self.spot(run.at) - half, self.spot(run.at) + half, run.control) for run in runs),
                key=lambda span: span[0],
            )
        middle = band = ""
        for piece in [spans] if self.x.numbers else [[span] for span in spans]:
            corners = [
                (at, *_ends(last)) for left, right, last in piece for at in dict.fromkeys((left, right))
            ]
            middle += "M" + "L".join(
                f"{at:.1f} {_down(self.y((low + high) / 2))}" for at, low, high in corners
            )
            upper = [f"{at:.1f} {_down(self.y(high))}" for at, _, high in corners]
            lower = [f"{at:.1f} {_down(self.y(low))}" for at, low, _ in reversed(corners)]
            band += f"M{'L'.join(upper + lower)}Z"
        return middle, band


def _texts(x: GridAxis) -> tuple[list[str], bool]:
    """Texts of the ticks, and whether they are slanted, as words are that have no room; such numbers are left out."""
    kept, free = [], float("-inf")
    for place, text in x.ticks:
        half = len(text) * LETTER / 2
        fits = _across(place) - half >= free
        kept.append(text if fits else "")
        free = _across(place) + half + GAP if fits else free
    if x.numbers or all(kept):
        return kept, False
    return [text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…" for _, text in x.ticks], True


COLUMNS = 2


HEADING = 26.0  # room over a panel for its title


LEGEND = 18.0  # height of a line


def sweep_svg(figure: SweepFigure) -> str:
    """The content of the file: two panels a row, beneath them the legend."""
    across, height = min(COLUMNS, len(figure.panels)), figure.height + HEADING
    places = [
        (panel, n % COLUMNS * geometry.PANEL_WIDTH, HEADING + n // COLUMNS * height)
        for n, panel in enumerate(figure.panels)
    ]
    end = -(-len(figure.panels) // COLUMNS) * height + LEGEND / 2
    return (
        environment()
        .get_template("sweep_file.html")
        .render(
            figure=figure,
            geometry=geometry,
            places=places,
            legend=[(line, end + n * LEGEND) for n, line in enumerate(figure.legend)],
            note=end + len(figure.legend) * LEGEND,
            width=across * geometry.PANEL_WIDTH,
            height=end + (len(figure.legend) + 1) * LEGEND,
        )
    )
