"""What students read of each set, in bytes, and what they reach with it: a table, and accuracy against bytes.

A set is worth its bytes where it lies above the control's curve: random real images that cost as much. Where
a run stores labels in several ways, there is a table of these too, and accuracy against the bytes of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..run_folder.comparison import of_all
from ..run_folder.results import Shipped
from ..runtime.console import bytes_text
from .axis import Axis, Geometry, linear_axis, log_axis
from .figures import accuracy_text, mean, scatter, spread
from .finished_run import FinishedArm, FinishedRun

PANEL = Geometry(width=440.0, height=262.0, left=46.0, right=432.0, top=10.0, bottom=222.0)


@dataclass(frozen=True)
class BytesCell:
    """What students of a kind read of a set, in words: ``–`` where they do not learn from it; what of it are
    labels and weights, and how many images are labelled."""

    total: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class BytesRow:
    """A set.

    Attributes:
        images: bytes of its images in words.
        cells: one for each kind of students.
        iterations: iterations of its images, summed over them; None: not known, or nothing was optimized.
    """

    arm: FinishedArm
    images: str
    cells: list[BytesCell]
    iterations: int | None


@dataclass(frozen=True)
class BytesKey:
    """An arm of the legend; arms of several runs with one title share color and marker.

    Attributes:
        index: its place among all arms, 0 for the control.
        control: whether it is the control.
    """

    label: str
    index: int
    control: bool


@dataclass(frozen=True)
class BytesMark:
    """A set in panel coordinates: its bytes across, and its mean and one standard deviation upright; the
    number of its row in a table beside, or nothing."""

    arm: BytesKey
    x: float
    y: float
    high: float
    low: float
    text: str
    number: str = ""


@dataclass(frozen=True)
class BytesPanel:
    """One kind of students.

    Attributes:
        title: network and labels of the students.
        control: SVG path through the controls, by bytes.
    """

    title: str
    marks: list[BytesMark]
    control: str


@dataclass(frozen=True)
class BytesFigure:
    """Accuracy against bytes: a panel for each kind of students, on the same axes.

    Attributes:
        panels: at least one.
        x_ticks, y_ticks: (position, text) of each tick; bytes are in MB.
    """

    panels: list[BytesPanel]
    legend: list[BytesKey]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def bytes_rows(run: FinishedRun) -> list[BytesRow]:
    """What each kind of students reads of each arm; empty where the run's version did not measure it."""
    rows = []
    for arm in run.arms:
        if arm.result.shipped is None:
            return []
        work = run.manifest.stages.get(f"recover {arm.key}")
        iterations = None if work is None or arm.control or not arm.method.steps else work.images
        cells = [_cell(shipped_by(arm, student)) for student in run.students]
        rows.append(BytesRow(arm, bytes_text(arm.result.shipped.images), cells, iterations))
    return rows


def _cell(found: Shipped | None) -> BytesCell:
    if found is None:
        return BytesCell("–")
    parts = {"labels": found.labels, "teacher": found.teacher}
    texts = [f"{name} {bytes_text(count)}" for name, count in parts.items() if count]
    if found.forwards:
        texts.append(f"{found.forwards:,} labelled")
    return BytesCell(bytes_text(found.total), tuple(texts))


@dataclass(frozen=True)
class Point:
    """A set: bytes, and its accuracy in percent with one standard deviation about it."""

    arm: BytesKey
    bytes: int
    low: float
    high: float
    text: str
    number: str = ""


def point_of(arm: BytesKey, size: int, fractions: Sequence[float], name: str, number: str = "") -> Point:
    """The point of a set that ``name`` tells in words."""
    middle, deviation = 100 * mean(fractions), 100 * spread(fractions)
    text = f"{name}, {bytes_text(size)}: {middle:.1f} %"
    return Point(arm, size, low=middle - deviation, high=middle + deviation, text=text, number=number)


def bytes_figure(runs: Sequence[FinishedRun]) -> BytesFigure | None:
    """Accuracy against bytes of all sets of runs with the same kinds of students; None where there is none.

    Sets of which students diverged have no mark.
    """
    arms = {arm.label: arm.control for run in runs for arm in run.arms}
    keys = {label: BytesKey(label, n, control) for n, (label, control) in enumerate(arms.items())}
    return figure_of(
        [
            (title, [point for run in runs for point in _points(run, student, keys)])
            for student, title in runs[0].students.items()
        ],
        list(keys.values()),
    )


def figure_of(
    titled: Sequence[tuple[str, Sequence[Point]]], legend: list[BytesKey], *, controls: bool = True
) -> BytesFigure | None:
    """A panel for each title that has points, all on the same axes; None where no title has any.

    Args:
        controls: whether a path joins the controls.
    """
    points = [point for _, each in titled for point in each]
    if not points:
        return None
    x = log_axis([point.bytes / 1e6 for point in points])
    y = linear_axis([end for point in points for end in (point.low, point.high)])
    panels = []
    for title, each in titled:
        if marks := [_mark(point, x, y) for point in each]:
            panels.append(BytesPanel(title, marks, _control(marks) if controls else ""))
    return BytesFigure(panels, legend=legend, x_ticks=PANEL.x_ticks(x), y_ticks=PANEL.y_ticks(y))


def _points(run: FinishedRun, student: str, keys: Mapping[str, BytesKey]) -> list[Point]:
    last = run.metrics.last(student)
    return [
        point_of(keys[arm.label], found.total, fractions, f"{arm.label}, {run.metrics.ipc} a class")
        for arm in run.arms
        if (found := shipped_by(arm, student)) is not None and (fractions := of_all(last.get(arm.key, ())))
    ]


def shipped_by(arm: FinishedArm, student: str) -> Shipped | None:
    """What one student of a kind reads of a set; None: they do not learn from it, or it was not measured."""
    found = arm.result.kinds.get(student)
    return None if found is None else found.shipped


def _mark(point: Point, x: Axis, y: Axis) -> BytesMark:
    across = round(PANEL.x(x(point.bytes / 1e6)), 1)
    middle, high, low = (
        round(PANEL.y(y(value)), 1) for value in ((point.low + point.high) / 2, point.high, point.low)
    )
    return BytesMark(point.arm, across, middle, high, low, text=point.text, number=point.number)


def _control(marks: Sequence[BytesMark]) -> str:
    """Path through the controls, by bytes; one size of the control tells its height alone."""
    controls = sorted((mark for mark in marks if mark.arm.control), key=lambda mark: mark.x)
    if len(controls) == 1:
        return f"M{PANEL.left} {controls[0].y}H{PANEL.right}"
    return "M" + "L".join(f"{mark.x} {mark.y}" for mark in controls) if controls else ""


@dataclass(frozen=True)
class LabelCell:
    """Students of an arm.

    Attributes:
        accuracy: mean over the seeds in percent, or how many diverged.
        after: ± and the standard deviation over seeds; empty where there are not several.
        size: bytes of the stored labels in words.
    """

    accuracy: str
    after: str
    size: str


@dataclass(frozen=True)
class LabelRow:
    """A way to store labels.

    Attributes:
        number: its place in the table, from 1.
        name: name of its students in the recipe.
        words: how the labels are stored and learned.
        hash: the protocol's.
    """

    number: int
    name: str
    words: str
    cells: list[LabelCell]
    hash: str


def label_rows(run: FinishedRun) -> list[LabelRow]:
    """The ways in which a run stores labels; empty where it has one."""
    rows = []
    for number, (name, words) in enumerate(run.label_rates.items(), start=1):
        cells = [_label_cell(arm, name) for arm in run.arms]
        rows.append(LabelRow(number, name, words, cells=cells, hash=run.metrics.students[name].hash))
    return rows


def _label_cell(arm: FinishedArm, name: str) -> LabelCell:
    found = arm.result.students.get(name)
    if found is None or found.shipped is None:
        return LabelCell("–", "", "")
    return LabelCell(accuracy_text(found.last), scatter(found.last), bytes_text(found.shipped.labels))


def label_figure(run: FinishedRun) -> BytesFigure | None:
    """Accuracy against bytes of labels, in one panel; None where nothing was measured in several ways."""
    keys = {arm.key: BytesKey(arm.label, arm.index, arm.control) for arm in run.arms}
    points = [point for arm in run.arms for point in _label_points(run, arm, keys[arm.key])]
    return figure_of([(run.recipe.student.network, points)], list(keys.values()), controls=False)


def _label_points(run: FinishedRun, arm: FinishedArm, key: BytesKey) -> Iterator[Point]:
    for number, (name, words) in enumerate(run.label_rates.items(), start=1):
        found = arm.result.students.get(name)
        if found is not None and found.shipped is not None and (fractions := of_all(found.last)):
            text = f"{number}. {words}, {arm.label}"
            yield point_of(key, found.shipped.labels, fractions, text, str(number))
