"""The page of several runs: accuracy against images a class, or run beside run where some have as many.

Every number is compared with the control of its own run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from ..config import CONTROL
from ..errors import InputError, refusals_explained
from ..run_folder import RunFolder, SweepResults, read
from ..runtime.console import counted
from ..runtime.files import write_text
from .bytes_figure import PANEL as BYTES_PANEL
from .bytes_figure import bytes_figure
from .figures import accuracy_text, gain_text, scatter
from .finished_run import FinishedRun, read_run
from .page import Cell, Finding, find_best, strips
from .sweep_figure import PANEL, SweepFigure, SweptRun, SweptSet, accuracy_by_key
from .templates import environment
from .verdicts import choices, verdicts, winner_sentences_of

TITLE_END = "· fastdd</title>"
"""how the title of every page ends, by which a page is known as one"""
HEAD = 1 << 16
"""bytes at the beginning of a page in which its title stands"""


@refusals_explained()
def report_runs(folders: Sequence[Path], page: Path) -> Path:
    """Write one page of several finished runs.

    Args:
        folders: their run folders, at least two and each once.

    Returns:
        ``page``. It is written whole or not at all.

    Raises:
        InputError: a run is not finished or given twice, they have other classes or students, or ``page`` is
            there and no page of fastdd's.
    """
    require_page(page)
    runs = sorted(map(read_run, folders), key=lambda run: run.metrics.ipc)
    require_one_series(runs)
    series = Series(runs, _names(runs))
    write_text(page, environment().get_template("several_runs.html").render(_context(series, page)))
    return page


def require_page(path: Path) -> None:
    """Refuse a file that is no page of fastdd's, over which a page would be written."""
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(HEAD)
    if TITLE_END.encode() not in head:
        raise InputError(f"{path} exists and is no page of fastdd; name another file with --out")


def runs_of_sweep(folder: Path) -> list[Path]:
    """The folders of a sweep's runs; empty where the folder is no sweep's, or the sweep is one run."""
    sweep = RunFolder(folder)
    if sweep.recipe.is_file() or not sweep.sweep.is_file():
        return []
    return [folder / run.folder for run in read(sweep.sweep, SweepResults).runs]


def require_one_series(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs that cannot share a page or a figure."""
    first, places = runs[0], [run.folder.path.resolve() for run in runs]
    if without := [run for run in runs if not run.students]:
        raise InputError(f"{without[0].folder} trained no students; give runs with students")
    for number, run in enumerate(runs[1:], 1):
        if places[number] in places[:number]:
            raise InputError(f"{run.folder} is given twice; give each run once")
        if run.metrics.classes != first.metrics.classes:
            raise InputError(f"{first.folder} and {run.folder} have other classes; give runs of one data set")
        if (split := run.metrics.data.evaluated_on) != (other := first.metrics.data.evaluated_on):
            raise InputError(
                f"students of {first.folder} were tested on the {other} images and those of {run.folder} on "
                f"the {split} images; give runs with one data.evaluate"
            )
        if run.students != first.students:
            ours, theirs = ("; ".join(each.students.values()) for each in (first, run))
            raise InputError(
                f"{first.folder} has the students {ours}, but {run.folder} has {theirs}; give runs with the "
                "same students"
            )


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """A name for each run: its folder's, or the whole path where two folders share a name."""
    names = [run.folder.path.resolve().name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [str(run.folder.path) for run in runs]


@dataclass(frozen=True)
class Series:
    """Runs in the order of their images a class.

    Attributes:
        names: what the page calls them.
    """

    runs: Sequence[FinishedRun]
    names: Sequence[str]

    @property
    def by_ipc(self) -> bool:
        """Whether each run has images a class of its own, which then tell it apart."""
        return len({run.metrics.ipc for run in self.runs}) == len(self.runs)

    @property
    def one_ipc(self) -> bool:
        """Whether all runs have as many images a class."""
        return len({run.metrics.ipc for run in self.runs}) == 1

    @property
    def columns(self) -> list[str]:
        """What tells each run apart, such as ``10 a class`` or ``runs/dm``."""
        sizes = [f"{run.metrics.ipc} a class" for run in self.runs]
        if self.by_ipc:
            return sizes
        if self.one_ipc:
            return list(self.names)
        return [f"{name}, {size}" for name, size in zip(self.names, sizes, strict=True)]


@dataclass(frozen=True)
class Row:
    """An arm in the table.

    Attributes:
        control: whether it is the control.
        cells: its accuracies, for each kind of students those of each run.
    """

    title: str
    control: bool
    cells: list[Cell]


def _context(series: Series, page: Path) -> dict[str, object]:
    """The names that the template uses."""
    runs = series.runs
    findings = [find_best(run) for run in runs]
    told, notes = _of_judgements([run for run in runs if run.judged])
    return {
        "runs": runs,
        "series": series,
        "title": " and ".join(dict.fromkeys(run.metrics.recipe for run in runs)),
        "sizes": sorted({run.metrics.ipc for run in runs}),
        "first": runs[0].metrics,
        "students": runs[0].students,
        "findings": list(zip(series.columns, runs, findings, strict=True)),
        "figure": _figure(series),
        "judged": all(run.judged for run in runs),
        "verdicts": told,
        "notes": notes,
        "winners": winner_sentences_of(RunFolder(page.parent)),
        "geometry": PANEL,
        "bytes_figure": bytes_figure(runs),
        "bytes_geometry": BYTES_PANEL,
        "rows": _rows(runs, findings),
        "protocols": _protocols(series),
        "strips": strips(runs[0]),
        "pages": [
            Path(os.path.relpath(run.folder.report, page.parent)).as_posix()
            if run.folder.report.is_file()
            else ""
            for run in runs
        ],
    }


def _of_judgements(runs: Sequence[FinishedRun]) -> tuple[list[str], list[str]]:
    """A sentence for each set of judgements; and what was looked for in them, found and chosen, each once."""
    told: list[str] = []
    notes: list[str] = []
    for run in runs:
        sentences, sets = verdicts(run.metrics), len(run.arms) - 1
        told += sentences[:sets]
        notes += sentences[sets:]
    chosen = [sentence for run in runs for sentence in choices(run.recipe, run.metrics)]
    return told, list(dict.fromkeys([*notes, *chosen]))


def _figure(series: Series) -> SweepFigure:
    """A panel for each kind of students, on the same axes; where the runs go across, also for each IPC."""
    runs, swept = series.runs, []
    across = () if series.by_ipc else ("run",)
    keys = (
        *across,
        *(() if series.one_ipc else ("ipc",)),
        *(("student",) if len(runs[0].students) > 1 else ()),
    )
    for student, title in runs[0].students.items():
        for run, name in zip(runs, series.names, strict=True):
            places: dict[str, JsonValue] = {"run": name, "ipc": run.metrics.ipc, "student": title}
            at = {key: places[key] for key in keys}
            last = run.metrics.last(student)
            arms = [arm for arm in run.arms if not arm.control and arm.key in last]
            sets = [SweptSet(arm.label, at, last[arm.key]) for arm in arms]
            swept.append(SweptRun(at, last[CONTROL], sets))
    return accuracy_by_key(swept, keys)


def _rows(runs: Sequence[FinishedRun], findings: Sequence[Finding | None]) -> list[Row]:
    """The control, then every arm that a run has; arms of one name and title share a row."""
    rows = []
    for key, label in dict.fromkeys((arm.key, arm.label) for run in runs for arm in run.arms):
        cells = [
            _cell(run, finding, key, student)
            if any((arm.key, arm.label) == (key, label) for arm in run.arms)
            else Cell("–")
            for student in runs[0].students
            for run, finding in zip(runs, findings, strict=True)
        ]
        rows.append(Row(label, key == CONTROL, cells))
    return rows


def _cell(run: FinishedRun, finding: Finding | None, key: str, student: str) -> Cell:
    """An arm's accuracy in a run; marked where it is the best set or the best control of that run."""
    last = run.metrics.last(student)
    if key not in last:  # these students do not learn from it
        return Cell("–")
    best = finding is not None and (key, student) == (finding.arm.key, finding.student)
    best_random = (
        finding is not None and len(run.students) > 1 and (key, student) == (CONTROL, finding.random_student)
    )
    gain = "" if key == CONTROL else gain_text(last[key], last[CONTROL])
    mark = "best random" if best_random else ""
    return Cell(accuracy_text(last[key]), scatter(last[key]), best=best, gain=gain, mark=mark)


@dataclass(frozen=True)
class Protocol:
    """A protocol of a kind of students.

    Attributes:
        text: the protocol in a line.
        runs: the columns of the runs that have it; empty where all have it.
    """

    digest: str
    text: str
    runs: list[str]


def _protocols(series: Series) -> list[tuple[str, list[Protocol]]]:
    """Each kind of students with its protocols, which may differ with the images a class or from run to
    run."""
    found = []
    for student, title in series.runs[0].students.items():
        texts: dict[str, str] = {}
        columns: dict[str, list[str]] = {}
        for run, column in zip(series.runs, series.columns, strict=True):
            protocol = run.metrics.protocols[student]
            columns.setdefault(protocol.hash, []).append(column)
            texts[protocol.hash] = f"{protocol.text}; {counted(protocol.seeds, 'seed')}"
        several = len(texts) > 1
        found.append(
            (title, [Protocol(digest, text, columns[digest] * several) for digest, text in texts.items()])
        )
    return found
