"""A run folder: ``fastdd status DIR`` and ``fastdd report DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    status = commands.add_parser(
        "status", help="say which stages of a run are done, and how far the others are"
    )
    status.add_argument("folder", metavar="DIR", help="the run folder")
    status.set_defaults(run=_status)
    report = commands.add_parser("report", help="write the page of a finished run again")
    report.add_argument("folder", metavar="DIR", help="the run folder")
    report.set_defaults(run=_report)


def _status(arguments: argparse.Namespace) -> None:
    from ..runs.status import status

    print("\n".join(map(str, status(Path(arguments.folder)))))


def _report(arguments: argparse.Namespace) -> None:
    from ..report import report

    print(report(Path(arguments.folder)))
