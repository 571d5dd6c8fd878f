"""Ablations: ``fastdd sweep RECIPE --grid KEY=VALUE,VALUE,...``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.console import counted
from .console import new_table, refuse_diverged, say, show_table, spread, work_text
from .options import Commands, overrides_of
from .stages import DIVERGED, evaluated_text, print_published, run_arguments, say_reduced

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ..run_folder import SweepResults
    from ..run_folder.results import SweepArm, SweepScores

HELP = "run a recipe at every point of a grid of values; an interrupted sweep is continued"
TEXT = (
    "Run a recipe at every point of a grid. Keys of the method make arms of one run, which share its "
    "teacher, bank and control. Keys of the run, such as ipc, make runs in folders of their own; the teacher "
    "and the bank of an earlier one are taken over where they are the same. The first key goes across the "
    "figure."
)


def add(commands: Commands) -> None:
    sweep = commands.add_parser("sweep", help=HELP, description=TEXT)
    run_arguments(sweep)
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="values of a key, for example method.gamma=0,10,50; of several grids every combination is run "
        "(default: those of the whole table or figure, where RECIPE is one of a paper's)",
    )
    sweep.add_argument(
        "--seeds", type=int, metavar="N", help="students of every set (default: the recipe's number)"
    )
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> None:
    from ..runs.sweep import sweep

    results = sweep(
        arguments.recipe,
        arguments.grid,
        arguments.out,
        overrides_of(arguments),
        add=arguments.add,
        arms=arguments.arms,
        students=arguments.students,
        seeds=arguments.seeds,
        fresh=arguments.fresh,
        download=arguments.download,
    )
    if results is not None:
        _print(results, Path(arguments.out or f"runs/{results.recipe}-sweep"))


def _scores(of: SweepScores | SweepArm, best: str | None) -> list[str]:
    """Accuracies and diversity as cells of a table; ``best`` is the heading of the best, where it is told."""
    accuracies = [spread(of.last)] if best is None else [spread(of.last), spread(of.best)]
    return [*accuracies, f"{of.coverage:.3f}", f"{of.vendi:.2f}", f"{of.cosine:.3f}"]


def _print(results: SweepResults, path: Path) -> None:
    """A row for the control of each run and for each set; a column for each key of the grid."""
    from ..config.naming import short_keys, value_text
    from ..report.verdicts import winner_sentences
    from ..run_folder import Metrics, RunFolder, read, read_recipe
    from ..run_folder.comparison import best_title

    names, recipe = short_keys(results.keys), read_recipe(RunFolder(path / results.runs[0].folder))
    best = best_title(results.evaluated_on, recipe.student.reported)
    told = ["last %"] if best is None else ["last %", f"{best} %"]
    scores = (*told, "coverage", "Vendi", "cosine", "GMAC an image")
    rows = new_table("", *names.values(), *scores)

    def values(at: Mapping[str, JsonValue]) -> list[str]:
        return [value_text(at[key]) if key in at else "" for key in names]

    measured = [read(RunFolder(path / run.folder).metrics, Metrics) for run in results.runs]
    for run, metrics in zip(results.runs, measured, strict=True):
        rows.add_row("random real images", *values(run.at), *_scores(run.control, best), "-")
        for name, arm in run.arms.items():
            mark = "" if metrics.arms[name].reduced is None else " (reduced)"
            rows.add_row(
                arm.title + mark, *values(run.at | arm.at), *_scores(arm, best), work_text(arm.multiply_adds)
            )
    folder = RunFolder(path)
    show_table(rows)
    for sentence in winner_sentences(results):
        say(sentence)
    if recipe.students:
        say("the table and the figure are of the section student; the pages show all students")
    say(evaluated_text(measured[0].data))
    for run, metrics in zip(results.runs, measured, strict=True):
        if metrics.published is not None and metrics.published.rows:
            say(f"\n{run.folder or metrics.recipe}:")
            print_published(metrics)
        say_reduced(metrics)
        page = RunFolder(path / run.folder).report
        say(f"protocol {run.protocol.hash}, {counted(run.protocol.seeds, 'seed')}: open {page}")
    if len(results.runs) > 1 and folder.report.is_file():
        say(f"all runs by their images a class: open {folder.report}")
    say(f"the figure: {folder.sweep_figure}; every number: {folder.sweep}")
    refuse_diverged(_diverged(results, path), DIVERGED)


def _diverged(results: SweepResults, path: Path) -> list[str]:
    """A line for each set of all runs of which students diverged."""
    from ..run_folder import Metrics, RunFolder, read

    lines = []
    for run in results.runs:
        metrics = read(RunFolder(path / run.folder).metrics, Metrics)
        lines += [f"{run.folder}: {line}" if run.folder else line for line in metrics.diverged()]
    return lines
