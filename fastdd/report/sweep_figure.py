"""Accuracy against the value of a swept key: the figure of ``fastdd sweep``, for the page and as a file.

The first key of the grid goes across. Every combination of an arm and the values of its method's other keys
is a line. Runs that differ in further keys of the run, such as ``ipc``, have a panel each, because their
controls differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import JsonValue

from ..config.naming import point_text, short_keys
from ..run_folder.comparison import EvaluatedOn, Fractions, of_all
from .axis import Axis, Geometry, GridAxis, grid_axis, linear_axis
from .figures import mean, spread
from .templates import environment

PANEL = Geometry(width=440.0, height=272.0, left=46.0, right=432.0, top=10.0, bottom=222.0)
SLANTED = 44.0
"""further height of a panel where the values are too long to stand side by side and so are slanted"""
LETTERS, LETTER_WIDTH, GAP = 16, 6.2, 6.0
"""most letters of a slanted value, the width of a letter, and the space between two values"""
APART = 9.0
"""distance between the markers of two lines at a value that is no number"""

T = TypeVar("T")


@dataclass(frozen=True)
class SweptSet:
    """A set of a sweep's run.

    Attributes:
        title: title of its arm in the recipe.
        at: keys of the grid, those of the run among them, and the values with which the set was made and
            evaluated.
        last: accuracies of the seeds after the last step, as fractions; None for a student that diverged.
    """

    title: str
    at: Mapping[str, JsonValue]
    last: Fractions


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep.

    Attributes:
        at: the keys of the grid that concern the whole run, and their values.
        control: accuracies of the control's seeds, as fractions; None for a student that diverged.
    """

    at: Mapping[str, JsonValue]
    control: Fractions
    sets: Sequence[SweptSet]


@dataclass(frozen=True)
class Mark:
    """A set in panel coordinates.

    Attributes:
        high, low: places of one standard deviation above and below.
        text: all that in words.
    """

    x: float
    y: float
    high: float
    low: float
    text: str


@dataclass(frozen=True)
class Line:
    """An arm with one choice of the keys that do not go across.

    Attributes:
        index: number of the line, from 1; it picks color and marker.
        label: the arm and the choice in words.
        path: SVG path of the line through the marks; empty where the values are no numbers.
        level: whether the key across does not concern the arm, so that the line is level.
        control: False; the marker's template asks it of every arm.
    """

    index: int
    label: str
    marks: list[Mark]
    path: str
    level: bool
    control: bool = False


@dataclass(frozen=True)
class Panel:
    """Runs that differ in nothing but the key across.

    Attributes:
        title: the further keys of the runs and their values; empty where there are none.
        control, band: SVG paths of the control's mean and of one standard deviation about it.
        lines: the other arms.
    """

    title: str
    control: str
    band: str
    lines: list[Line]


@dataclass(frozen=True)
class SweepFigure:
    """Panels on the same axes.

    Attributes:
        panels: at least one.
        legend: the lines of all panels, without marks.
        key: short name of the key across.
        x_ticks, y_ticks: (position, text) of each tick; a text that has no room is empty.
        broken: position of the break between zero and the logarithmic part of the axis; None: it has none.
        slanted: whether the texts under the axis are slanted.
    """

    panels: list[Panel]
    legend: list[Line]
    key: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    broken: float | None
    slanted: bool
    height: float


def accuracy_by_key(runs: Sequence[SweptRun], keys: Sequence[str]) -> SweepFigure:
    """The figure of a sweep. Sets and controls of which students diverged have no mark.

    Args:
        runs: the runs in the order of the grid; their sets may include some that were not swept.
        keys: keys of the grid in its order, at least one; the first goes across.
    """
    sets = [each for run in runs for each in run.sets]
    measured = [*(run.control for run in runs), *(each.last for each in sets)]
    across = _unique(run.at[keys[0]] for run in runs if keys[0] in run.at)
    across = _unique([*across, *(each.at[keys[0]] for each in sets if keys[0] in each.at)])
    x = grid_axis(across, log=keys[0] == "ipc")
    y = linear_axis([end for last in measured for end in _ends(last) or ()] or [0.0, 100.0])
    frame = _Frame(keys[0], short_keys(keys), run_keys=frozenset(runs[0].at), x_axis=x, y_axis=y)
    labels = _unique(map(frame.label, sets))
    panels = [
        frame.panel(title, [run for run in runs if frame.title(run) == title], labels)
        for title in _unique(map(frame.title, runs))
    ]
    texts, slanted = _texts(x)
    return SweepFigure(
        panels,
        legend=[Line(1 + n, label, marks=[], path="", level=False) for n, label in enumerate(labels)],
        key=frame.names[keys[0]],
        x_ticks=[(_x(place), text) for place, text in zip(x.places, texts, strict=True)],
        y_ticks=[(_y(place), text) for place, text in y.ticks],
        broken=None if x.broken is None else _x(x.broken),
        slanted=slanted,
        height=PANEL.height + (SLANTED if slanted else 0.0),
    )


def _unique(items: Iterable[T]) -> list[T]:
    """The different items in their order; a set would not do, since some, such as lists, have no hash."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _ends(last: Fractions) -> tuple[float, float] | None:
    """One standard deviation below and above the mean, in percent; None: a student diverged."""
    if (fractions := of_all(last)) is None:
        return None
    values = [100 * float(value) for value in fractions]
    return mean(values) - spread(values), mean(values) + spread(values)


def _x(place: float) -> float:
    """Horizontal position of a fraction of the axis across."""
    return round(PANEL.x(place), 1)


def _y(place: float) -> float:
    """Vertical position of a fraction of the upright axis."""
    return round(PANEL.y(place), 1)


@dataclass(frozen=True)
class _Frame:
    """What all panels share.

    Attributes:
        names: short names of all keys of the grid.
        run_keys: the keys that concern whole runs.
    """

    key: str
    names: Mapping[str, str]
    run_keys: frozenset[str]
    x_axis: GridAxis
    y_axis: Axis

    def title(self, run: SweptRun) -> str:
        """The title of a run's panel."""
        return point_text({key: value for key, value in run.at.items() if key != self.key}, self.names)

    def label(self, each: SweptSet) -> str:
        """The arm and the values of its method's other keys; the keys of runs stand over the panels."""
        rest = {key: value for key, value in each.at.items() if key not in (self.key, *self.run_keys)}
        return ", ".join(part for part in (each.title, point_text(rest, self.names)) if part)

    def panel(self, title: str, runs: Sequence[SweptRun], labels: Sequence[str]) -> Panel:
        """The panel of the runs of one title; ``labels`` are those of all panels."""
        sets = [each for run in runs for each in run.sets]
        lines = []
        for number, label in enumerate(labels):
            if own := [each for each in sets if self.label(each) == label]:
                lines.append(self._line(number, label, own, lines=len(labels)))
        control, band = self._control(runs)
        return Panel(title, control, band, lines)

    def _line(self, number: int, label: str, sets: Sequence[SweptSet], *, lines: int) -> Line:
        """One of ``lines`` lines. At values that are no numbers, lines stand side by side."""
        level = self.key not in sets[0].at
        room = (PANEL.right - PANEL.left) / len(self.x_axis.values)
        aside = 0.0 if self.x_axis.numbers else (number - (lines - 1) / 2) * min(APART, room / (lines + 1))
        ends = [(each, _ends(each.last)) for each in sets]
        marks = [self._mark(each, reached, label, aside) for each, reached in ends if reached is not None]
        marks.sort(key=lambda mark: mark.x)
        path = ""
        if level and marks:
            path = f"M{PANEL.left} {marks[0].y}H{PANEL.right}"
        elif self.x_axis.numbers and len(marks) > 1:
            path = "M" + "L".join(f"{mark.x} {mark.y}" for mark in marks)
        return Line(1 + number, label, marks, path=path, level=level)

    def _mark(self, each: SweptSet, reached: tuple[float, float], label: str, aside: float) -> Mark:
        low, high = reached
        middle = (low + high) / 2
        where, x = "", PANEL.right - GAP
        if self.key in each.at:
            where = f", {point_text({self.key: each.at[self.key]}, self.names)}"
            x = self._place(each.at) + aside
        deviation = f" ± {high - middle:.1f}" if len(each.last) > 1 else ""
        text = f"{label}{where}: {middle:.1f}{deviation} %"
        return Mark(round(x, 1), self._height(middle), self._height(high), low=self._height(low), text=text)

    def _place(self, at: Mapping[str, JsonValue]) -> float:
        """Horizontal position of the value of the key across."""
        return _x(self.x_axis(at[self.key]))

    def _height(self, accuracy: float) -> float:
        """Vertical position of an accuracy in percent."""
        return _y(self.y_axis(accuracy))

    def _control(self, runs: Sequence[SweptRun]) -> tuple[str, str]:
        """SVG paths of the control's mean and of one standard deviation about it.

        The control is level where the key across is none of the runs'. Otherwise it goes from run to run, or
        has a piece about each value where the values are no numbers.
        """
        spans = [(PANEL.left, PANEL.right, runs[0].control)]
        if self.key in self.run_keys:
            half = 0.0
            if not self.x_axis.numbers:
                half = 0.4 * (PANEL.right - PANEL.left) / len(self.x_axis.values)
            middles = [(self._place(run.at), run.control) for run in runs]
            spans = [(x - half, x + half, last) for x, last in sorted(middles, key=lambda pair: pair[0])]
        mean_path = band = ""
        for piece in [spans] if self.x_axis.numbers else [[span] for span in spans]:
            reached = [(left, right, _ends(last)) for left, right, last in piece]
            corners = [
                (x, *ends)
                for left, right, ends in reached
                if ends is not None
                for x in dict.fromkeys((left, right))
            ]
            if not corners:
                continue
            means = [f"{x:.1f} {self._height((low + high) / 2)}" for x, low, high in corners]
            upper = [f"{x:.1f} {self._height(high)}" for x, _, high in corners]
            lower = [f"{x:.1f} {self._height(low)}" for x, low, _ in reversed(corners)]
            mean_path += "M" + "L".join(means)
            band += f"M{'L'.join(upper + lower)}Z"
        return mean_path, band


def _texts(x: GridAxis) -> tuple[list[str], bool]:
    """Texts of the ticks, and whether they are slanted.

    Where texts have no room side by side, numbers are left out (empty) and words are slanted.
    """
    kept, free = [], float("-inf")
    for place, text in x.ticks:
        half = len(text) * LETTER_WIDTH / 2
        fits = _x(place) - half >= free
        kept.append(text if fits else "")
        free = _x(place) + half + GAP if fits else free
    if x.numbers or all(kept):
        return kept, False
    return [text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…" for _, text in x.ticks], True


COLUMNS = 2
"""panels side by side in the file"""
HEADING = 26.0
"""height of a panel's title in the file"""
LEGEND = 18.0
"""height of a line of the legend in the file"""


def sweep_svg(figure: SweepFigure, evaluated_on: EvaluatedOn = "test") -> str:
    """The figure as an SVG file: two panels a row, and the legend below them.

    Args:
        evaluated_on: split that the accuracies are of.
    """
    across, height = min(COLUMNS, len(figure.panels)), figure.height + HEADING
    places = [
        (panel, n % COLUMNS * PANEL.width, HEADING + n // COLUMNS * height)
        for n, panel in enumerate(figure.panels)
    ]
    end = -(-len(figure.panels) // COLUMNS) * height + LEGEND / 2
    return (
        environment()
        .get_template("sweep_file.html")
        .render(
            figure=figure,
            evaluated_on=evaluated_on,
            geometry=PANEL,
            places=places,
            legend=[(line, end + n * LEGEND) for n, line in enumerate(figure.legend)],
            note=end + len(figure.legend) * LEGEND,
            width=across * PANEL.width,
            height=end + (len(figure.legend) + 1) * LEGEND,
        )
    )
