"""``fastdd status DIR``: how far a run is."""

from __future__ import annotations

import argparse
from pathlib import Path

from .console import follow
from .options import Commands


def add(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="say which stages of a run are done, and how far the others are",
        description="Say which stages of a run are done, and how far the others are. It reads the run's "
        "folder alone, so the run may be at work, on another machine too.",
    )
    status.add_argument("folder", metavar="DIR", help="the run folder")
    status.add_argument(
        "--watch",
        action="store_true",
        help="follow a run that another process does, its speed and its last losses, until it ends",
    )
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> None:
    from ..runs.status import status

    folder = Path(arguments.folder)
    if arguments.watch:
        from ..runs.watch import watch

        follow(watch(folder), untold={"last news"})
    print("\n".join(map(str, status(folder))))
