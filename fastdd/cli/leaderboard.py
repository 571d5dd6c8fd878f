"""``fastdd leaderboard PATH... --out DIR``: one page of many results."""

from __future__ import annotations

import argparse

from .options import Commands

TEXT = (
    "Write one page of the results of many runs: every set beside the random real images of its own run, by "
    "data set, images a class, regime and student, with bytes and cost. It is one folder without a server."
)


def add(commands: Commands) -> None:
    board = commands.add_parser(
        "leaderboard", help="write one page of the results of many runs", description=TEXT
    )
    board.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="run folders, metrics.json files under any name, or folders in which they lie",
    )
    board.add_argument(
        "--out", metavar="DIR", required=True, help="folder of the page, new or a leaderboard's"
    )
    board.set_defaults(run=_leaderboard)


def _leaderboard(arguments: argparse.Namespace) -> None:
    from ..report.leaderboard import leaderboard
    from .console import say

    say(f"open {leaderboard(arguments.paths, arguments.out)}")
