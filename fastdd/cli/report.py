"""``fastdd report DIR``: the page of a finished run, or of several."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from ..errors import InputError
from .options import Commands

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
