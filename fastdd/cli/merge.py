"""``fastdd merge BANK... --out DIR``: one bank of banks that were built apart."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import Commands

TEXT = (
    "Make one bank of several. A bank holds the statistics of the real images, class by class; those of "
    "other classes stand side by side, and those of other images of the same classes are added up."
)


def add(commands: Commands) -> None:
    merge = commands.add_parser(
        "merge",
        help="make one bank of banks that hold different classes or different images",
        description=TEXT,
    )
    merge.add_argument("banks", nargs="+", metavar="BANK", help="the folder bank/ of a run, finished or not")
    merge.add_argument("--out", metavar="DIR", required=True, help="the new folder")
    merge.set_defaults(run=_merge)


def _merge(arguments: argparse.Namespace) -> None:
    from ..bank import merge

    whole = merge([Path(bank) for bank in arguments.banks], Path(arguments.out))
    state = "a whole bank" if whole else "some classes are still lacking; merge again with them"
    print(f"{arguments.out}: {state}")
