"""``fastdd status DIR``: how far a run is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.console import console
from .options import Commands

if TYPE_CHECKING:
    from rich.table import Table


def add(commands: Commands) -> None:
    """Add the command."""
    status = commands.add_parser(
        "status", help="say which stages of a run are done, and how far the others are"
    )
    status.add_argument("folder", metavar="DIR", help="the run folder")
    status.add_argument(
        "--watch",
        action="store_true",
        help="show what a run that another process does is at, its speed and its last losses, until it ends",
    )
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> None:
    from ..runs.status import status

    folder = Path(arguments.folder)
    if arguments.watch:
        _watch(folder)
    print("\n".join(map(str, status(folder))))


def _watch(folder: Path) -> None:
    """Show the run in place on a terminal; in a file or a pipe, what is new in it, line by line."""
    from rich.live import Live

    from ..runs.watch import watch

    terminal = console()
    if not terminal.is_terminal:
        shown: list[tuple[str, str]] = []
        for rows in watch(folder):
            fresh = [row for row in rows if row not in shown and row[0] != "last news"]
            for heading, text in fresh:
                print(f"{heading}: {text}", flush=True)
            shown = rows
        return
    with Live(console=terminal, auto_refresh=False) as live:
        for rows in watch(folder):
            live.update(_table(rows), refresh=True)


def _table(rows: list[tuple[str, str]]) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for heading, text in rows:
        table.add_row(heading, text)
    return table
