"""Labels at a rate: accuracy against the bytes of stored labels, where a run stores them in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..run_folder.accuracies import of_all
from ..run_folder.shipped import bytes_text
from .bytes_figure import BytesFigure, BytesKey, Point, figure_of, point_of
from .figures import accuracy_text, scatter
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
    return LabelCell(accuracy_text(found.last), scatter(found.last), bytes_text(found.shipped.labels))


def label_figure(run: FinishedRun) -> BytesFigure | None:
    """Accuracy against bytes of labels, in one panel; None where nothing was measured in several ways."""
    keys = {arm.key: BytesKey(arm.label, arm.index, arm.control) for arm in run.arms}
    points = [point for arm in run.arms for point in _points(run, arm, keys[arm.key])]
    return figure_of([(run.recipe.student.network, points)], list(keys.values()), controls=False)


def _points(run: FinishedRun, arm: FinishedArm, key: BytesKey) -> Iterator[Point]:
    for number, (name, words) in enumerate(run.label_rates.items(), start=1):
        found = arm.result.students.get(name)
        if found is not None and found.shipped is not None and (fractions := of_all(found.last)):
            text = f"{number}. {words}, {arm.label}"
            yield point_of(key, found.shipped.labels, fractions, text, str(number))
