"""The page of a run, one self-contained file: images as data URIs, style and figures inline, no scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..run_folder import FullSetResult
from ..runtime.files import write_text
from . import figures, sweep_figure
from .embedding_map import HEIGHT, WIDTH, embedding_map
from .figures import accuracy_figure, class_dots, in_percent, loss_figure, mean, spread, stage_rows
from .finished_run import FinishedArm, FinishedRun, read_run
from .sheets import Sheet, sheet
from .templates import environment


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
        format: format of the value.
        fractions: the accuracies over seeds whose mean the value is; None: it is no mean.
    """

    name: str
    note: str
    direction: int
    value: Callable[[FinishedArm], float | None]
    format: str
    fractions: Callable[[FinishedArm], Sequence[float]] | None = None


@dataclass(frozen=True)
class Cell:
    """A value in the table.

    Attributes:
        text: the value.
        after: ± and the standard deviation over seeds; empty where there are not several.
        best: whether the value is the best of its column.
    """

    text: str
    after: str = ""
    best: bool = False


def _accuracy_column(name: str, fractions: Callable[[FinishedArm], Sequence[float]]) -> Column:
    def value(arm: FinishedArm) -> float:
        return 100 * mean(fractions(arm))

    return Column(name, "% ↑", direction=1, value=value, format=".1f", fractions=fractions)


COLUMNS = (
    _accuracy_column("Last", lambda arm: arm.result.last),
    _accuracy_column("Best", lambda arm: arm.result.best),
    Column("Coverage", "↑", direction=1, value=lambda arm: arm.result.coverage, format=".3f"),
    Column("Vendi", "↑", direction=1, value=lambda arm: arm.result.vendi, format=".2f"),
    Column("Cosine", "↓", direction=-1, value=lambda arm: arm.result.cosine, format=".3f"),
    Column("Recover", "s ↓", direction=-1, value=lambda arm: arm.seconds, format=",.1f"),
)


def _table(arms: Sequence[FinishedArm]) -> list[tuple[FinishedArm, list[Cell]]]:
    """A row of cells for each arm."""
    columns = [_cells(arms, column) for column in COLUMNS]
    return [(arm, [cells[row] for cells in columns]) for row, arm in enumerate(arms)]


def _cells(arms: Sequence[FinishedArm], column: Column) -> list[Cell]:
    """The cells of a column; its best value is marked, and all that print like it."""
    values = [column.value(arm) for arm in arms]
    texts = ["–" if v is None else format(v, column.format).replace("-", "−") for v in values]
    known = [(column.direction * v, text) for v, text in zip(values, texts, strict=True) if v is not None]
    best = max(known)[1] if len(known) > 1 else None
    after = [_scatter(column.fractions(arm)) if column.fractions else "" for arm in arms]
    return [Cell(text, more, text == best) for text, more in zip(texts, after, strict=True)]


def _scatter(fractions: Sequence[float]) -> str:
    return f"± {100 * spread(fractions):.1f}" if len(fractions) > 1 else ""


def _full_set_cells(full_set: FullSetResult | None) -> list[Cell]:
    """The row of the whole training set, which has accuracies alone and is best in nothing."""
    if full_set is None:
        return []
    reached = [Cell(f"{100 * mean(each):.1f}", _scatter(each)) for each in (full_set.last, full_set.best)]
    return reached + [Cell("–")] * (len(COLUMNS) - len(reached))


# -- the finding -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """The best distilled set against the control.

    Attributes:
        arm: the best set.
        value: its accuracy in percent.
        gain: percentage points above the control.
        clear: whether the gain exceeds the scatter of the seeds.
    """

    arm: FinishedArm
    value: float
    gain: float
    clear: bool


def _finding(run: FinishedRun) -> Finding | None:
    """None where only the control was run."""
    if len(run.arms) < 2:
        return None
    control = in_percent(run.arms[0].result.last)
    best = max(run.arms[1:], key=lambda arm: mean(arm.result.last))
    scores = in_percent(best.result.last)
    gain = mean(scores) - mean(control)
    clear = abs(gain) > math.hypot(spread(scores), spread(control))
    return Finding(best, mean(scores), gain=gain, clear=clear)


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


def _strips(run: FinishedRun) -> list[tuple[FinishedArm, Sheet]]:
    """For each arm, the first image of each class, side by side."""
    return [(arm, sheet([[run.image(arm, name, 0) for name in run.shown_classes]])) for arm in run.arms]


def _context(run: FinishedRun) -> dict[str, object]:
    """The names that the template uses."""
    stages = stage_rows(run.manifest.stages)
    return {
        "run": run,
        "metrics": run.metrics,
        "manifest": run.manifest,
        "finding": _finding(run),
        "columns": COLUMNS,
        "rows": _table(run.arms),
        "full_set": _full_set_cells(run.metrics.full_set),
        "strips": _strips(run),
        "sheets": _sheets(run),
        "accuracy": accuracy_figure(run),
        "sweep": _sweep(run),
        "sweep_geometry": sweep_figure.PANEL,
        "losses": loss_figure(run),
        "by_class": [
            class_dots(run, lambda result: result.cosine_by_class, "Cosine within the class ↓"),
            class_dots(run, lambda result: result.vendi_by_class, "Vendi score ↑"),
        ],
        "map": embedding_map(run),
        "map_size": (WIDTH, HEIGHT),
        "geometry": figures.PANEL,
        "stages": stages,
        "seconds": sum(stage.seconds for stage in stages),
    }
