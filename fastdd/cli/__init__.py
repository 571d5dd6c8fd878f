"""The ``fastdd`` command. A module that imports torch is imported when the command that needs it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import InputError
from ..version import __version__
from . import (
    data,
    evaluate,
    export,
    labels,
    merge,
    metrics,
    recipes,
    report,
    robust,
    show,
    stages,
    status,
    sweep,
)

COMMANDS = (
    stages,
    sweep,
    status,
    report,
    evaluate,
    robust,
    metrics,
    recipes,
    show,
    data,
    merge,
    labels,
    export,
)
"""in the order of ``fastdd --help``"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastdd", description="Fast large-scale dataset distillation.")
    parser.add_argument("--version", action="version", version=f"fastdd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; overrides may also follow options, where argparse alone does not take them."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (
        any(text.startswith("-") or "=" not in text for text in rest) or "overrides" not in arguments
    ):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    0: done; 1: problems were found; 2: bad input, told in one line; 130: interrupted.
    """
    arguments = _parse(argv)
    try:
        return arguments.run(arguments) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
