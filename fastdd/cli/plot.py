"""``fastdd plot RUN...``: figures for papers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .options import Commands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..report.finished_run import FinishedRun

TEXT = (
    "Write what the page of a run shows as figures for papers: accuracy, accuracy against bytes, losses and "
    "images. Of several runs, or of a sweep over ipc, write accuracy against images a class and bytes."
)


def add(commands: Commands) -> None:
    plot = commands.add_parser("plot", help="write figures for papers", description=TEXT)
    plot.add_argument("folders", nargs="+", metavar="RUN", help="run folders, or the folder of a sweep")
    plot.add_argument("--to", choices=("pdf", "svg", "png"), default="pdf", help="format (default: pdf)")
    plot.add_argument(
        "--out", metavar="DIR", help="folder of the figures (default: figures in that of the run)"
    )
    plot.set_defaults(run=_plot)


def _plot(arguments: argparse.Namespace) -> None:
    from ..plots import save
    from ..plots.drawing import require_matplotlib
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
