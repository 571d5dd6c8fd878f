"""One self-contained page: images as data URIs, style and figures inline, no script and no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.files import write_text
from . import figures, sweep_figure
from .embedding_map import HEIGHT, WIDTH, embedding_map
from .figures import accuracy_figure, class_dots, loss_figure, mean, spread, stage_rows
from .folder import Arm, Run, WholeSet, read_run
from .sheets import Sheet, sheet
from .templates import environment


def report(out: Path) -> Path:
    """Write ``out/report.html`` from a finished run folder.

    Args:
        out: the run folder, finished up to its metrics; nothing else is read.

    Returns:
        The path of the page. It is written whole or not at all.

    Raises:
        InputError: a file is missing or damaged; the message names it and says what to do.
    """
    out = Path(out)
    content = environment().get_template("page.html").render(_context(read_run(out)))
    write_text(out / "report.html", content)
    return out / "report.html"


# -- the table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    text: str
    after: str
    """± and the standard deviation over seeds, where there are several"""
    best: bool


@dataclass(frozen=True)
class Column:
    name: str
    note: str
    """which way is better, or the unit"""


Value = Callable[[Arm], float | None]


def _table(run: Run) -> tuple[list[Column], list[tuple[Arm, list[Cell]]]]:
    """Columns and rows; in each column the best value is marked, ties by what is printed."""
    columns: list[tuple[Column, int, Value, str, str]] = [
        (Column("Last", "% ↑"), 1, lambda arm: 100 * mean(arm.metrics["last"]), ".1f", "last"),
        (Column("Best", "% ↑"), 1, lambda arm: 100 * mean(arm.metrics["best"]), ".1f", "best"),
        (Column("Coverage", "↑"), 1, lambda arm: arm.metrics["coverage"], ".3f", ""),
        (Column("Vendi", "↑"), 1, lambda arm: arm.metrics["vendi"], ".2f", ""),
        (Column("Cosine", "↓"), -1, lambda arm: arm.metrics["cosine"], ".3f", ""),
        (Column("Recover", "s ↓"), -1, lambda arm: arm.seconds, ",.1f", ""),
    ]
    cells = [_column(run.arms, *column[1:]) for column in columns]
    return [column[0] for column in columns], [(arm, [c[i] for c in cells]) for i, arm in enumerate(run.arms)]


def _column(arms: Sequence[Arm], direction: int, value: Value, form: str, seeds: str) -> list[Cell]:
    values = [value(arm) for arm in arms]
    texts = ["–" if v is None else format(v, form).replace("-", "−") for v in values]
    known = [(direction * v, text) for v, text in zip(values, texts, strict=True) if v is not None]
    best = max(known)[1] if len(known) > 1 else None
    after = [_scatter(arm.metrics[seeds]) if seeds else "" for arm in arms]
    return [Cell(text, more, text == best) for text, more in zip(texts, after, strict=True)]


def _scatter(accuracies: Sequence[float]) -> str:
    return f"± {100 * spread(accuracies):.1f}" if len(accuracies) > 1 else ""


def _whole(whole: WholeSet, columns: int) -> list[Cell]:
    """Cells of the whole training set, which has accuracies alone and is best in nothing."""
    reached = [
        Cell(f"{100 * mean(values):.1f}", _scatter(values), False) for values in (whole.last, whole.best)
    ]
    return reached + [Cell("–", "", False)] * (columns - len(reached))


# -- the finding -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """The best distilled set against the control, in percent and points; clear: beyond the seeds' scatter."""

    arm: Arm
    value: float
    gain: float
    clear: bool


def _finding(run: Run) -> Finding | None:
    """None where only the control was run."""
    if len(run.arms) < 2:
        return None
    control = [100 * v for v in run.arms[0].metrics["last"]]
    best = max(run.arms[1:], key=lambda arm: mean(arm.metrics["last"]))
    scores = [100 * v for v in best.metrics["last"]]
    gain = mean(scores) - mean(control)
    return Finding(best, mean(scores), gain, abs(gain) > math.hypot(spread(scores), spread(control)))


def _sweep(run: Run) -> sweep_figure.SweepFigure | None:
    """None where the run is no sweep."""
    if not run.sweep.points:
        return None
    control, *arms = run.arms
    sets = []
    for arm in arms:
        point = run.sweep.points.get(arm.key)
        title, at = (point.title, point.at) if point else (arm.label, {})
        sets.append(sweep_figure.SweptSet(title, at, arm.metrics["last"]))
    return sweep_figure.accuracy_by_key(
        [sweep_figure.SweptRun({}, control.metrics["last"], sets)], run.sweep.keys
    )


# -- the page ----------------------------------------------------------------------------------------


def _sheets(run: Run) -> list[tuple[Arm, Sheet]]:
    """For each arm, rows of classes and columns of slots."""
    slots = range(run.shown_slots)
    return [
        (arm, sheet([[run.image(arm, c, slot) for slot in slots] for c in run.shown_classes]))
        for arm in run.arms
    ]


def _strips(run: Run) -> list[tuple[Arm, Sheet]]:
    """For each arm, the first image of each class, side by side."""
    return [(arm, sheet([[run.image(arm, c, 0) for c in run.shown_classes]])) for arm in run.arms]


def _context(run: Run) -> dict[str, Any]:
    columns, rows = _table(run)
    stages = stage_rows(run.manifest["stages"])
    return {
        "run": run,
        "metrics": run.metrics,
        "manifest": run.manifest,
        "finding": _finding(run),
        "columns": columns,
        "rows": rows,
        "whole": _whole(run.whole, len(columns)) if run.whole else [],
        "strips": _strips(run),
        "sheets": _sheets(run),
        "accuracy": accuracy_figure(run),
        "sweep": _sweep(run),
        "sweep_geometry": sweep_figure.PANEL,
        "losses": loss_figure(run),
        "by_class": [
            class_dots(run, "cosine_by_class", "Cosine within the class ↓"),
            class_dots(run, "vendi_by_class", "Vendi score ↑"),
        ],
        "map": embedding_map(run),
        "map_size": (WIDTH, HEIGHT),
        "geometry": figures.PANEL,
        "stages": stages,
        "seconds": sum(stage.seconds for stage in stages),
    }
