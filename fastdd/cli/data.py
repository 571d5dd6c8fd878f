"""Data sets: ``fastdd data check ROOT`` and ``fastdd data show ROOT``."""

from __future__ import annotations

import argparse
from typing import Any

from .console import console


def add(commands: Any) -> None:
    data = commands.add_parser("data", help="work on data sets").add_subparsers(
        dest="data_command", required=True
    )
    check = data.add_parser("check", help="list every problem of a data set")
    check.add_argument("root", metavar="ROOT")
    check.add_argument(
        "--quick", action="store_true", help="look at both ends of each file instead of decoding it"
    )
    check.set_defaults(run=_check)
    index = data.add_parser("show", help="print the index of a data set: classes, counts, fingerprint")
    index.add_argument("root", metavar="ROOT")
    index.add_argument(
        "--contents", action="store_true", help="fingerprint of the contents of the files, not the names"
    )
    index.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> None:
    from rich.table import Table

    from ..data import open_dataset, summary

    rows = Table("", "train", "test", box=None, header_style="bold")
    train, test = (
        summary(open_dataset(arguments.root, split, "contents" if arguments.contents else "names"))
        for split in ("train", "test")
    )
    for name in train:
        if name not in ("split", "counts", "classes"):
            rows.add_row(name.replace("_", " "), str(train[name]), str(test[name]))
    rows.add_row("classes", *(str(len(split["classes"])) for split in (train, test)))
    rows.add_row(
        "images a class", *(f"{min(split['counts'])} to {max(split['counts'])}" for split in (train, test))
    )
    console().print(rows)


def _check(arguments: argparse.Namespace) -> int:
    from ..data import check

    root = arguments.root
    problems = check(root, arguments.quick)
    for problem in problems:
        print(problem)
    print(
        f"{root}: {len(problems)} problem{'' if len(problems) == 1 else 's'}"
        if problems
        else f"{root}: no problems"
    )
    return 1 if problems else 0
