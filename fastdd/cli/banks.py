"""Banks that were built apart: ``fastdd merge BANK... --out DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    merge = commands.add_parser(
        "merge", help="merge banks that were built apart, of other classes or other images"
    )
    merge.add_argument("banks", nargs="+", metavar="BANK", help="the folder bank/ of a run, whole or in part")
    merge.add_argument("--out", metavar="DIR", required=True, help="a new folder")
    merge.set_defaults(run=_merge)


def _merge(arguments: argparse.Namespace) -> None:
    from ..bank import merge

    whole = merge([Path(bank) for bank in arguments.banks], Path(arguments.out))
    print(
        f"{arguments.out}: "
        + ("a whole bank" if whole else "some classes are still lacking; merge again with them")
    )
