"""A run folder: ``fastdd status DIR`` and ``fastdd report DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    status = commands.add_parser("status", help="say what of a run is done")
    status.add_argument("folder", metavar="DIR")
    status.set_defaults(run=_status)
    report = commands.add_parser("report", help="write report.html of a finished run again")
    report.add_argument("folder", metavar="DIR")
    report.set_defaults(run=_report)


def _status(arguments: argparse.Namespace) -> None:
    from ..runs.status import status

    print("\n".join(map(str, status(Path(arguments.folder)))))


def _report(arguments: argparse.Namespace) -> None:
    from ..report import report

    print(report(Path(arguments.folder)))
