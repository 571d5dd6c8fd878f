"""``fastdd report DIR``: the page of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    report = commands.add_parser("report", help="write the page of a finished run again")
    report.add_argument("folder", metavar="DIR", help="the run folder")
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> None:
    from ..report import report

    print(report(Path(arguments.folder)))
