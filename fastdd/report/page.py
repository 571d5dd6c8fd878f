"""The page of a run, one self-contained file: images as data URIs, style and figures inline, no scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import CONTROL
from ..errors import refusals_explained
from ..run_folder.comparison import (
    Difference,
    Fractions,
    best_title,
    difference,
    diverged_text,
    more_seeds,
    of_all,
)
from ..runtime.files import write_text
from . import figures, sweep_figure
from .bytes_figure import PANEL as BYTES_PANEL
from .bytes_figure import bytes_figure, bytes_rows, label_figure, label_rows
from .embedding_map import HEIGHT, WIDTH, embedding_map
from .figures import (
    accuracy_figure,
    accuracy_text,
    class_dots,
    expert_figure,
    gain_text,
    loss_figure,
    mean,
    scatter,
    stage_rows,
)
from .finished_run import FinishedArm, FinishedRun, read_run
from .reproduce import reproduction
from .sheets import Sheet, sheet
from .snapshot_figure import snapshot_figures
from .templates import environment
from .verdicts import choices, robust_rows, verdicts, winner_sentences_of


@refusals_explained()
def report(out: Path) -> Path:
    """Write the page of a finished run into its folder.

    Args:
        out: the run folder, finished up to its metrics; nothing else is read.

    Returns:
        The path of the page. It is written whole or not at all.

    Raises:
        InputError: a file is missing or damaged; the message names it and says what to do.
    """
    run = read_run(Path(out))
    page = run.folder.report
    write_text(page, environment().get_template("page.html").render(_context(run)))
    return page


# -- the table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: its heading.
        note: the unit, and an arrow to the better side.
        direction: 1 where larger values are better, -1 where smaller ones are.
        value: the value of an arm; None: the arm has none.
        fractions: the accuracies of the seeds, whose mean the value is; it has none where a student diverged.
            None: the value is no mean.
        gains: whether the difference from the control is told.
        student: the kind of students that it is of; None: the run has one kind, or the value is of none.
    """

    name: str
    note: str
    direction: int
    value: Callable[[FinishedArm], float | None]
    format: str
    fractions: Callable[[FinishedArm], Fractions] | None = None
    gains: bool = False
    student: str | None = None


@dataclass(frozen=True)
class Cell:
    """A value in the table.

    Attributes:
        after: ± and the standard deviation over seeds; empty where there are not several.
        best: whether the value is the best of its column.
        gain: percentage points above the control of the same students, with the 95 % interval; empty: not
            told here.
        mark: what the value is among all students, in words; empty: nothing special.
    """

    text: str
    after: str = ""
    best: bool = False
    gain: str = ""
    mark: str = ""


def _accuracy_column(
    name: str,
    fractions: Callable[[FinishedArm], Fractions],
    *,
    gains: bool = False,
    student: str | None = None,
) -> Column:
    def value(arm: FinishedArm) -> float | None:
        known = of_all(fractions(arm))
        return 100 * mean(known) if known else None

    return Column(
        name, "% ↑", direction=1, value=value, format=".1f", fractions=fractions, gains=gains, student=student
    )


OTHER_COLUMNS = (
    Column("Coverage", "↑", direction=1, value=lambda arm: arm.result.coverage, format=".3f"),
    Column("Vendi", "↑", direction=1, value=lambda arm: arm.result.vendi, format=".2f"),
    Column("Cosine", "↓", direction=-1, value=lambda arm: arm.result.cosine, format=".3f"),
    Column("Recover", "s ↓", direction=-1, value=lambda arm: arm.seconds, format=",.1f"),
)
"""columns beside those of accuracies"""
FEATURE_COLUMNS = (
    Column("Coverage, CLIP", "↑", direction=1, value=lambda arm: _feature(arm, "coverage"), format=".3f"),
    Column("Vendi, CLIP", "↑", direction=1, value=lambda arm: _feature(arm, "vendi"), format=".2f"),
    Column("Cosine, CLIP", "↓", direction=-1, value=lambda arm: _feature(arm, "cosine"), format=".3f"),
)
"""columns of the diversity in the features that ``metrics.features`` names"""


def _feature(arm: FinishedArm, name: str) -> float | None:
    return None if arm.result.features is None else float(getattr(arm.result.features, name))


def _other_columns(run: FinishedRun) -> tuple[Column, ...]:
    """The columns beside those of accuracies."""
    return (*OTHER_COLUMNS, *(FEATURE_COLUMNS if run.recipe.metrics.features is not None else ()))


def _columns(run: FinishedRun) -> tuple[Column, ...]:
    """One protocol's accuracies at the end, and at the best test where that is told; of several protocols,
    each one's at the end; none where no students were trained."""
    if len(run.students) == 1:
        last, best = _accuracy_column("Last", lambda arm: arm.result.last, gains=True), _best_title(run)
        own = (last,) if best is None else (last, _accuracy_column(best, lambda arm: arm.result.best))
        return (*own, *_other_columns(run))
    accuracies = (_student_column(run, student, title) for student, title in run.students.items())
    return (*accuracies, *_other_columns(run))


def _best_title(run: FinishedRun) -> str | None:
    """Heading of the best of all test passes; None: it is not told."""
    title = best_title(run.metrics.data.evaluated_on, run.recipe.student.reported)
    return title.capitalize() if title is not None and len(run.students) == 1 else None


def _student_column(run: FinishedRun, student: str, title: str) -> Column:
    last = run.metrics.last(student)
    return _accuracy_column(title, lambda arm: last.get(arm.key, ()), gains=True, student=student)


def _table(
    arms: Sequence[FinishedArm], columns: Sequence[Column], finding: Finding | None
) -> list[tuple[FinishedArm, list[Cell]]]:
    """A row of cells for each arm."""
    filled = [_cells(arms, column, finding) for column in columns]
    return [(arm, [cells[row] for cells in filled]) for row, arm in enumerate(arms)]


def _cells(arms: Sequence[FinishedArm], column: Column, finding: Finding | None) -> list[Cell]:
    """The cells of a column; its best value is marked, and all that print like it, unless all print alike."""
    values = [column.value(arm) for arm in arms]
    measured = [column.fractions(arm) if column.fractions else () for arm in arms]
    texts = [
        (diverged_text(each) or "–") if v is None else format(v, column.format).replace("-", "−")
        for v, each in zip(values, measured, strict=True)
    ]
    known = [
        (column.direction * v, text)
        for arm, v, text in zip(arms, values, texts, strict=True)
        if v is not None and not arm.result.leaks
    ]
    best = max(known)[1] if len({text for _, text in known}) > 1 else None
    after = [scatter(each) for each in measured]
    cells = [
        Cell(text, more, text == best and not arm.result.leaks)
        for arm, text, more in zip(arms, texts, after, strict=True)
    ]
    if not column.gains:
        return cells
    return [
        replace(cell, gain=_gain(arm, arms[0], column), mark=_mark(arm, column, finding))
        for arm, cell in zip(arms, cells, strict=True)
    ]


def _gain(arm: FinishedArm, control: FinishedArm, column: Column) -> str:
    if arm.control or column.fractions is None:
        return ""
    return gain_text(column.fractions(arm), column.fractions(control))


def _mark(arm: FinishedArm, column: Column, finding: Finding | None) -> str:
    """Whether a value is the best of all distilled sets, or of the controls, whatever the students; of one
    kind of students nothing."""
    if finding is None or column.student is None:
        return ""
    if arm.control:
        return "best random" if column.student == finding.random_student else ""
    return "best of all" if (arm, column.student) == (finding.arm, finding.student) else ""


def _full_set_cells(run: FinishedRun) -> list[Cell]:
    """The row of the whole training set, which has accuracies alone and is best in nothing."""
    full_set = run.metrics.full_set
    if full_set is None:
        return []
    further = (full_set.students[name] for name in run.students if name)
    accuracies = [full_set.last, *(each.last for each in further)]
    if _best_title(run) is not None:
        accuracies.append(full_set.best)
    reached = [Cell(accuracy_text(each), scatter(each)) for each in accuracies]
    return reached + [Cell("–")] * len(_other_columns(run))


# -- the finding -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """The best distilled set, with the students that learn most from it, against the controls.

    Attributes:
        student: name of its kind of students, in ``run.students``.
        value: its accuracy in percent.
        control: that of the control with the same students.
        difference: that from the control, seed by seed; its interval allows for the choice of the best.
        compared: sets and students of which it is the best.
        random_student: name of the students that learn most from random real images.
        random_value: their accuracy in percent.
    """

    arm: FinishedArm
    student: str
    value: float
    control: float
    difference: Difference
    compared: int
    random_student: str
    random_value: float


def find_best(run: FinishedRun) -> Finding | None:
    """The best set of a run; None where only the control was run, or nothing is left to compare.

    Kinds of students of which some of the control's diverged are left out, and so are sets of which some did,
    or that hold test images.
    """
    controls: dict[str, list[float]] = {}
    sets: list[tuple[list[float], str, FinishedArm]] = []
    for name in run.students:
        last = run.metrics.last(name)
        if (fractions := of_all(last[CONTROL])) is None:
            continue
        controls[name] = fractions
        for arm in run.arms[1:]:
            if not arm.result.leaks and (fractions := of_all(last.get(arm.key, ()))):
                sets.append((fractions, name, arm))
    if not sets:
        return None
    scores, student, best = max(sets, key=lambda each: mean(each[0]))
    control = controls[student]
    found = difference(scores, control, comparisons=len(sets))
    assert found is not None  # no student diverged
    random_student = max(controls, key=lambda name: mean(controls[name]))
    return Finding(
        arm=best,
        student=student,
        value=100 * mean(scores),
        control=100 * mean(control),
        difference=found,
        compared=len(sets),
        random_student=random_student,
        random_value=100 * mean(controls[random_student]),
    )


def _seeds_wanted(run: FinishedRun) -> int | None:
    """Seeds that make the intervals of the differences as narrow as wanted; None: they are so, or one seed
    does not tell."""
    return more_seeds(run.metrics.differences(), run.recipe.metrics.interval / 100)


def _sweep(run: FinishedRun) -> sweep_figure.SweepFigure | None:
    """None where the run is no sweep."""
    grid = run.recipe.sweep
    if not grid.points:
        return None
    control, *arms = run.arms
    sets = []
    for arm in arms:
        point = grid.points.get(arm.key)
        title, at = (point.title, point.at) if point else (arm.label, {})
        sets.append(sweep_figure.SweptSet(title, at, arm.result.last))
    swept = sweep_figure.SweptRun({}, control.result.last, sets)
    return sweep_figure.accuracy_by_key([swept], grid.keys)


# -- the page ----------------------------------------------------------------------------------------


def _sheets(run: FinishedRun) -> list[tuple[FinishedArm, Sheet]]:
    """For each arm, rows of classes and columns of slots."""
    slots = range(run.shown_slots)
    sheets = []
    for arm in run.arms:
        rows = [[run.image(arm, name, slot) for slot in slots] for name in run.shown_classes]
        sheets.append((arm, sheet(rows)))
    return sheets


def strips(run: FinishedRun) -> list[tuple[FinishedArm, Sheet]]:
    """For each arm, the first image of each class, side by side."""
    return [(arm, sheet([[run.image(arm, name, 0) for name in run.shown_classes]])) for arm in run.arms]


def strips_of(out: Path) -> list[tuple[str, str]]:
    """For each arm of a finished run, its name and the data URI of the first image of each class."""
    return [(arm.key, picture.uri) for arm, picture in strips(read_run(out))]


def _all_classes(run: FinishedRun) -> list[figures.AllClasses]:
    """Cosine and Vendi score of every class; nothing where the page names all classes anyway."""
    if len(run.metrics.classes) <= len(run.shown_classes):
        return []
    return [
        figures.all_classes(run, lambda result: result.cosine_by_class, "Cosine within the class ↓"),
        figures.all_classes(run, lambda result: result.vendi_by_class, "Vendi score ↑"),
    ]


def _context(run: FinishedRun) -> dict[str, object]:
    """The names that the template uses."""
    stages, finding, columns = stage_rows(run.manifest.stages), find_best(run), _columns(run)
    student = finding.student if finding else ""
    return {
        "run": run,
        "metrics": run.metrics,
        "manifest": run.manifest,
        "verdicts": verdicts(run.metrics) if run.judged or run.regimes > 1 else [],
        "finding": finding,
        "seeds_wanted": _seeds_wanted(run),
        "students": run.students,
        "protocols": {name: run.metrics.students.get(name, run.metrics.protocol) for name in run.students},
        "label_rows": label_rows(run),
        "label_figure": label_figure(run),
        "columns": columns,
        "best_title": _best_title(run),
        "rows": _table(run.arms, columns, finding),
        "full_set": _full_set_cells(run),
        "strips": strips(run),
        "sheets": _sheets(run),
        "accuracy": accuracy_figure(run, student) if run.students else None,
        "accuracies": {name: accuracy_figure(run, name) for name in run.students},
        "unlike_seen": [arm for arm in run.arms if arm.result.seen != run.metrics.ipc],
        "bytes_rows": bytes_rows(run),
        "bytes_figure": bytes_figure([run]),
        "bytes_geometry": BYTES_PANEL,
        "sweep": _sweep(run),
        "choices": choices(run.recipe, run.metrics) if run.judged else [],
        "robust": robust_rows(run.metrics),
        "winners": winner_sentences_of(run.folder),
        "sweep_geometry": sweep_figure.PANEL,
        "losses": loss_figure(run),
        "experts": expert_figure(run.experts),
        "snapshots": snapshot_figures(run.folder, run.recipe),
        "by_class": [
            class_dots(run, lambda result: result.cosine_by_class, "Cosine within the class ↓"),
            class_dots(run, lambda result: result.vendi_by_class, "Vendi score ↑"),
        ],
        "all_classes": _all_classes(run),
        "all_classes_geometry": figures.WIDE_PANEL,
        "map": embedding_map(run),
        "map_size": (WIDTH, HEIGHT),
        "geometry": figures.PANEL,
        "reproduction": reproduction(run.recipe),
        "stages": stages,
        "seconds": sum(stage.seconds for stage in stages),
    }
