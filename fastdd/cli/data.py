"""Data sets: ``fastdd data check ROOT`` and ``fastdd data show ROOT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runtime.console import counted
from .console import new_table, show_table
from .options import Commands, download, download_argument

if TYPE_CHECKING:
    from ..data import DatasetSummary
    from ..data.sources.base import FingerprintOf

ROOT = "a folder, an archive, shards, hf:ORG/NAME, or NAME:REST for a registered source"
TEXT = "Look at a data set before a run reads it. Nothing in it is changed."
CHECK = (
    "List every problem of a data set: images that cannot be read, classes that one split lacks, and stray "
    "files. It ends with 1 where there are some."
)
SHOW = (
    "Print the classes and counts of a data set, and a fingerprint by which runs know that they read the "
    "same images."
)


def add(commands: Commands) -> None:
    data = commands.add_parser("data", help="check a data set, or show what it holds", description=TEXT)
    actions = data.add_subparsers(dest="data_command", required=True)
    check = actions.add_parser("check", help="list every problem of a data set", description=CHECK)
    check.add_argument("root", metavar="ROOT", help=ROOT)
    check.add_argument(
        "--quick", action="store_true", help="look at both ends of each file instead of decoding it"
    )
    _add_follow_links(check)
    download_argument(check)
    check.set_defaults(run=_check)
    show = actions.add_parser(
        "show", help="print a data set's classes, counts and fingerprint", description=SHOW
    )
    show.add_argument("root", metavar="ROOT", help=ROOT)
    show.add_argument(
        "--contents", action="store_true", help="hash the contents of the files, not their names and sizes"
    )
    _add_follow_links(show)
    download_argument(show)
    show.set_defaults(run=_show)


def _add_follow_links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="follow links that lead out of the folder, as data.follow_links=true does",
    )


def _show(arguments: argparse.Namespace) -> None:
    from ..data import open_dataset, summary

    download(arguments, arguments.root)
    wanted: FingerprintOf = "contents" if arguments.contents else "names"
    opened = [
        open_dataset(arguments.root, split, wanted, follow_links=arguments.follow_links)
        for split in ("train", "test")
    ]
    both = [summary(dataset) for dataset in opened]
    rows = new_table("", "train", "test")
    for name, cells in _cells(both).items():
        rows.add_row(name, *cells)
    show_table(rows)


def _cells(both: list[DatasetSummary]) -> dict[str, list[str]]:
    """What the table says, a cell a split."""
    return {
        "layout": [split["layout"] for split in both],
        "images": [str(split["images"]) for split in both],
        "fingerprint": [split["fingerprint"] for split in both],
        "made from their": [split["fingerprint_of"] for split in both],
        "classes": [str(len(split["classes"])) for split in both],
        "images a class": [_range(split["counts"]) for split in both],
    }


def _range(counts: Sequence[int]) -> str:
    """The least and the most of some counts, once where they are the same."""
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _check(arguments: argparse.Namespace) -> int:
    from ..data import check
    from ..runtime.hub import local_folder

    download(arguments, arguments.root)
    local_folder(arguments.root)  # what is not in the cache is no problem of the data
    problems = check(arguments.root, arguments.quick, follow_links=arguments.follow_links)
    for problem in problems:
        print(problem)
    found = f"{counted(len(problems), 'problem') if problems else 'no problems'}"
    print(f"{arguments.root}: {found}")
    return 1 if problems else 0
