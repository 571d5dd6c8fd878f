"""The page of several runs that differ in their images a class: accuracy against IPC, and the control's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import CONTROL
from ..errors import InputError
from ..run_folder import RunFolder, SweepResults, read
from ..run_folder.accuracies import of_all
from ..runtime.files import write_text
from .figures import mean
from .finished_run import FinishedRun, read_run
from .page import Cell, Finding, accuracy_text, find_best, scatter
from .sheets import Sheet, sheet
from .sweep_figure import PANEL, SweepFigure, SweptRun, SweptSet, accuracy_by_key
from .templates import environment, signed


def report_by_ipc(folders: Sequence[Path], page: Path) -> Path:
    """Write one page of several finished runs.

    Args:
        folders: their run folders, at least two, each with other images a class.
        page: the file to write.

    Returns:
        ``page``. It is written whole or not at all.

    Raises:
        InputError: a run is not finished, two have as many images a class, or they have other classes or
            students.
    """
    runs = sorted(map(read_run, folders), key=lambda run: run.metrics.ipc)
    _check(runs)
    write_text(page, environment().get_template("by_ipc.html").render(_context(runs, page)))
    return page


def runs_of_sweep(folder: Path) -> list[Path]:
    """The folders of a sweep's runs; empty where the folder is no sweep's, or the sweep is one run."""
    sweep = RunFolder(folder)
    if sweep.recipe.is_file() or not sweep.sweep.is_file():
        return []
    return [folder / run.folder for run in read(sweep.sweep, SweepResults).runs]


def _check(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run, before in zip(runs[1:], runs, strict=False):
        if run.metrics.ipc == before.metrics.ipc:
            raise InputError(
                f"{before.folder} and {run.folder} both have {run.metrics.ipc} images a class; give one run "
                "for each number of them"
            )
        if run.metrics.classes != first.metrics.classes:
            raise InputError(f"{first.folder} and {run.folder} have other classes; give runs of one data set")
        if run.students != first.students:
            ours, theirs = ("; ".join(each.students.values()) for each in (first, run))
            raise InputError(
                f"{first.folder} has the students {ours}, but {run.folder} has {theirs}; give runs with the "
                "same students"
            )


@dataclass(frozen=True)
class Row:
    """An arm in the table.

    Attributes:
        title: its title.
        control: whether it is the control.
        cells: its accuracies, for each kind of students those of each number of images a class.
    """

    title: str
    control: bool
    cells: list[Cell]


def _context(runs: Sequence[FinishedRun], page: Path) -> dict[str, object]:
    """The names that the template uses."""
    findings = [find_best(run) for run in runs]
    return {
        "runs": runs,
        "first": runs[0].metrics,
        "students": runs[0].students,
        "findings": list(zip(runs, findings, strict=True)),
        "figure": _figure(runs),
        "geometry": PANEL,
        "rows": _rows(runs, findings),
        "protocols": _protocols(runs),
        "strips": _strips(runs[0]),
        "pages": [
            Path(os.path.relpath(run.folder.report, page.parent)).as_posix()
            if run.folder.report.is_file()
            else ""
            for run in runs
        ],
    }


def _figure(runs: Sequence[FinishedRun]) -> SweepFigure:
    """A panel for each kind of students, on the same axes."""
    several = len(runs[0].students) > 1
    swept = []
    for student, title in runs[0].students.items():
        for run in runs:
            at = {"ipc": run.metrics.ipc} | ({"student": title} if several else {})
            last = run.metrics.last(student)
            sets = [SweptSet(arm.label, at, last[arm.key]) for arm in run.arms if not arm.control]
            swept.append(SweptRun(at, last[CONTROL], sets))
    return accuracy_by_key(swept, ("ipc", "student") if several else ("ipc",))


def _rows(runs: Sequence[FinishedRun], findings: Sequence[Finding | None]) -> list[Row]:
    """The control, then every arm that a run has."""
    arms = {arm.key: arm for run in reversed(runs) for arm in run.arms}
    ordered = dict.fromkeys(arm.key for run in runs for arm in run.arms)
    rows = []
    for key in ordered:
        cells = [
            _cell(run, finding, key, student)
            for student in runs[0].students
            for run, finding in zip(runs, findings, strict=True)
        ]
        rows.append(Row(arms[key].label, arms[key].control, cells))
    return rows


def _cell(run: FinishedRun, finding: Finding | None, key: str, student: str) -> Cell:
    """An arm's accuracy in a run; marked where it is the best set or the best control of that run."""
    last = run.metrics.last(student)
    if key not in run.metrics.arms:
        return Cell("–")
    best = finding is not None and (key, student) == (finding.arm.key, finding.student)
    best_random = (
        finding is not None and len(run.students) > 1 and (key, student) == (CONTROL, finding.random_student)
    )
    gain, fractions, control = "", of_all(last[key]), of_all(last[CONTROL])
    if key != CONTROL and fractions is not None and control is not None:
        gain = signed(100 * (mean(fractions) - mean(control)))
    mark = "best random" if best_random else ""
    return Cell(accuracy_text(last[key]), scatter(last[key]), best=best, gain=gain, mark=mark)


def _protocols(runs: Sequence[FinishedRun]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each kind of students with the hash and text of its protocols, which may differ with the IPC."""
    found = []
    for student, title in runs[0].students.items():
        texts: dict[str, str] = {}
        for run in runs:
            protocol = {"": run.metrics.protocol, **run.metrics.students}[student]
            texts[protocol.hash] = f"{protocol.text}; {protocol.seeds} seed{'s' * (protocol.seeds > 1)}"
        found.append((title, list(texts.items())))
    return found


def _strips(run: FinishedRun) -> list[tuple[str, bool, Sheet]]:
    """The first image of each class of every arm, side by side."""
    return [
        (arm.label, arm.control, sheet([[run.image(arm, name, 0) for name in run.shown_classes]]))
        for arm in run.arms
    ]
