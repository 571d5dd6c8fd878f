"""Ablations: ``fastdd sweep RECIPE --grid KEY=VALUE,VALUE,...``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import console, spread
from .stages import run_arguments

HELP = "run a recipe at every point of a grid of values (continues an interrupted sweep)"
TEXT = (
    "Run a recipe at every point of a grid. Keys of the method make arms of one run, which share its teacher, bank and "
    "control; keys of the run, such as ipc, make runs in folders of their own, each with its own teacher unless "
    "teacher.weights=FILE gives one. The first key goes across the figure."
)


def add(commands: Any) -> None:
    sweep = commands.add_parser("sweep", help=HELP, description=TEXT)
    run_arguments(sweep)
    sweep.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="KEY=VALUES",
        help="for example method.gamma=0,10,50; several: every combination",
    )
    sweep.add_argument("--seeds", type=int, metavar="N", help="students of every set (default: the recipe's)")
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> None:
    from ..runs.sweep import sweep

    content = sweep(
        arguments.recipe,
        arguments.grid,
        arguments.out,
        arguments.overrides,
        arguments.add,
        arguments.seeds,
        arguments.fresh,
    )
    if content:
        _print(content, Path(arguments.out or f"runs/{content['recipe']}-sweep"))


def _print(content: dict[str, Any], folder: Path) -> None:
    """A row a set, first the control of its run; a column a key of the grid."""
    from rich.table import Table

    from ..config.naming import shown, tails

    names = tails(content["keys"])
    rows = Table(
        "", *names.values(), "last %", "best %", "coverage", "Vendi", "cosine", box=None, header_style="bold"
    )
    for run in content["runs"]:
        control = {"title": "random real images", "at": {}, **run["control"]}
        for arm in (control, *run["arms"].values()):
            at = run["at"] | arm["at"]
            rows.add_row(
                arm["title"],
                *(shown(at[key]) if key in at else "" for key in names),
                spread(arm["last"]),
                spread(arm["best"]),
                f"{arm['coverage']:.3f}",
                f"{arm['vendi']:.2f}",
                f"{arm['cosine']:.3f}",
            )
    out = console()
    out.print(rows)
    for run in content["runs"]:
        where = folder / run["folder"] / "report.html"
        out.print(f"protocol {run['protocol']['hash']}, {run['protocol']['seeds']} seeds: open {where}")
    out.print(f"the figure: {folder / 'sweep.svg'}; every number: {folder / 'sweep.json'}")
