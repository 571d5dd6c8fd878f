"""Pages and figures of finished runs: ``fastdd report DIR``, ``fastdd plot RUN...`` and ``fastdd leaderboard
PATH... --out DIR``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import InputError
from .options import Commands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..report.finished_run import FinishedRun

TEXT = (
    "Write the page of a finished run again. Of several runs with the same classes and kinds of students, or "
    "of a sweep over ipc, write one page: accuracy against images a class or, where runs have as many, run "
    "beside run, each with its control."
)


def add(commands: Commands) -> None:
    report = commands.add_parser("report", help="write the page of finished runs again", description=TEXT)
    report.add_argument("folders", nargs="+", metavar="DIR", help="run folders, or the folder of a sweep")
    report.add_argument(
        "--out", metavar="FILE", help="the page of several runs (default: runs.html beside the first)"
    )
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> None:
    from ..report import report, report_runs, runs_of_sweep
    from ..run_folder import RunFolder
    from ..runtime.lock import at_work

    first, *others = map(Path, arguments.folders)
    of_sweep = [] if others else runs_of_sweep(first)
    if not others and len(of_sweep) < 2:
        if arguments.out is not None:
            raise InputError("--out goes with several runs; the page of one run lies in its folder")
        run = of_sweep[0] if of_sweep else first
        with at_work(run, "report") if RunFolder(run).is_run() else nullcontext():
            print(report(run))
        return
    default = RunFolder(first).report if of_sweep else first.parent / "runs.html"
    with at_work(first, "report") if of_sweep and arguments.out is None else nullcontext():
        print(report_runs(of_sweep or [first, *others], Path(arguments.out or default)))


PLOT = (
    "Write what the page of a run shows as figures for papers: accuracy, accuracy against bytes, losses and "
    "images. Of several runs, or of a sweep over ipc, write accuracy against images a class and bytes."
)


def add_plot(commands: Commands) -> None:
    plot = commands.add_parser("plot", help="write figures for papers", description=PLOT)
    plot.add_argument("folders", nargs="+", metavar="RUN", help="run folders, or the folder of a sweep")
    plot.add_argument("--to", choices=("pdf", "svg", "png"), default="pdf", help="format (default: pdf)")
    plot.add_argument(
        "--out", metavar="DIR", help="folder of the figures (default: figures in that of the run)"
    )
    plot.set_defaults(run=_plot)


def _plot(arguments: argparse.Namespace) -> None:
    from ..plots import require_matplotlib, save
    from ..report import runs_of_sweep
    from ..report.finished_run import read_run
    from ..run_folder import RunFolder
    from ..runtime.lock import at_work

    require_matplotlib()
    first, *others = map(Path, arguments.folders)
    folders = [first, *others] if others else runs_of_sweep(first) or [first]
    runs = [read_run(folder) for folder in folders]
    home = first.parent if others else first
    out = RunFolder(home).figures if arguments.out is None else Path(arguments.out)
    with nullcontext() if others or arguments.out else at_work(first, "plot"):
        for name, figure in _of_several(runs) if len(runs) > 1 else _of_one(runs[0]):
            print(save(figure(), out / f"{name}.{arguments.to}"))


Named: TypeAlias = "tuple[str, Callable[[], Figure]]"
"""name of a figure's file, and what draws it"""


def _of_one(run: FinishedRun) -> Iterator[Named]:
    """All figures of a run; of each kind of students one, where it is of students."""
    from .. import plots

    for student in run.students:
        ending = f"-{student}" if student else ""
        yield f"accuracy{ending}", partial(plots.accuracy, run, student)
        if all(arm.result.shipped is not None for arm in run.arms):
            yield f"accuracy-by-bytes{ending}", partial(plots.accuracy_by_bytes, run, student)
    if any(any(arm.losses.values()) for arm in run.arms):
        yield "losses", partial(plots.losses, run)
    yield "images", partial(plots.images, run)
    for arm in run.arms:
        yield f"images-{arm.key}", partial(plots.images, run, arm.key)


def _of_several(runs: Sequence[FinishedRun]) -> Iterator[Named]:
    from .. import plots

    by_ipc = len({run.metrics.ipc for run in runs}) == len(runs)
    for student in runs[0].students:
        ending = f"-{student}" if student else ""
        if by_ipc:
            yield (f"accuracy-by-images{ending}", partial(plots.accuracy_by_images, runs, student))
        yield f"accuracy-by-bytes{ending}", partial(plots.accuracy_by_bytes, runs, student)


LEADERBOARD = (
    "Write one page of the results of many runs: every set beside the random real images of its own run, by "
    "data set, images a class, regime and student, with bytes and cost. It is one folder without a server."
)


def add_leaderboard(commands: Commands) -> None:
    board = commands.add_parser(
        "leaderboard", help="write one page of the results of many runs", description=LEADERBOARD
    )
    board.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="run folders, metrics.json files under any name, or folders in which they lie",
    )
    board.add_argument(
        "--out", metavar="DIR", required=True, help="folder of the page, new or a leaderboard's"
    )
    board.set_defaults(run=_leaderboard)


def _leaderboard(arguments: argparse.Namespace) -> None:
    from ..report.leaderboard import leaderboard
    from .console import say

    say(f"open {leaderboard(arguments.paths, arguments.out)}")
