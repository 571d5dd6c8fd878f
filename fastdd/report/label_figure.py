"""Labels at a rate: accuracy against the bytes of stored labels, where a run stores them in several ways."""

from __future__ import annotations

from dataclasses import dataclass

from ..run_folder.accuracies import diverged_text, of_all
from ..run_folder.shipped import bytes_text
from .axis import linear_axis, log_axis
from .bytes_figure import PANEL, BytesFigure, BytesKey, BytesMark, BytesPanel
from .figures import mean, spread
from .finished_run import FinishedArm, FinishedRun


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


@dataclass(frozen=True)
class _Point:
    """Students of an arm: bytes of their labels, and their accuracy in percent with one standard deviation
    about it."""

    arm: FinishedArm
    number: int
    bytes: int
    low: float
    high: float
    text: str


def label_rows(run: FinishedRun) -> list[LabelRow]:
    """The ways in which a run stores labels; empty where it has one."""
    rows = []
    for number, (name, words) in enumerate(run.label_rates.items(), start=1):
        cells = [_cell(arm, name) for arm in run.arms]
        rows.append(LabelRow(number, name, words, cells=cells, hash=run.metrics.students[name].hash))
    return rows


def _cell(arm: FinishedArm, name: str) -> LabelCell:
    found = arm.result.students.get(name)
    if found is None or found.shipped is None:
        return LabelCell("–", "", "")
    size, fractions = bytes_text(found.shipped.labels), of_all(found.last)
    if fractions is None:
        return LabelCell(diverged_text(found.last), "", size)
    after = f"± {100 * spread(fractions):.1f}" if len(fractions) > 1 else ""
    return LabelCell(f"{100 * mean(fractions):.1f}", after, size)


def label_figure(run: FinishedRun) -> BytesFigure | None:
    """Accuracy against bytes of labels, in one panel; None where nothing was measured in several ways."""
    points = [point for arm in run.arms for point in _points(run, arm)]
    if not points:
        return None
    x = log_axis([point.bytes / 1e6 for point in points])
    y = linear_axis([end for point in points for end in (point.low, point.high)])
    keys = {arm.key: BytesKey(arm.label, arm.index, arm.control) for arm in run.arms}
    marks = [
        BytesMark(
            keys[point.arm.key],
            round(PANEL.x(x(point.bytes / 1e6)), 1),
            round(PANEL.y(y((point.low + point.high) / 2)), 1),
            high=round(PANEL.y(y(point.high)), 1),
            low=round(PANEL.y(y(point.low)), 1),
            text=point.text,
            number=str(point.number),
        )
        for point in points
    ]
    return BytesFigure(
        [BytesPanel(run.recipe.student.network, marks, control="")],
        legend=list(keys.values()),
        x_ticks=PANEL.x_ticks(x),
        y_ticks=PANEL.y_ticks(y),
    )


def _points(run: FinishedRun, arm: FinishedArm) -> list[_Point]:
    points = []
    for number, (name, words) in enumerate(run.label_rates.items(), start=1):
        found = arm.result.students.get(name)
        if found is None or found.shipped is None or not (fractions := of_all(found.last)):
            continue
        middle, deviation = 100 * mean(fractions), 100 * spread(fractions)
        text = f"{number}. {words}, {arm.label}, {bytes_text(found.shipped.labels)}: {middle:.1f} %"
        low, high = middle - deviation, middle + deviation
        points.append(_Point(arm, number, found.shipped.labels, low=low, high=high, text=text))
    return points
