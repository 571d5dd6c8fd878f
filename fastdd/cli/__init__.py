"""The ``fastdd`` command. A module that imports torch is imported when the command that needs it runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ..errors import InputError, refusals_explained
from ..runtime.console import print_all_letters
from ..version import __version__
from . import (
    bench,
    check,
    data,
    doctor,
    estimate,
    evaluate,
    export,
    judge,
    labels,
    metrics,
    parts,
    recipes,
    report,
    robust,
    slurm,
    stages,
    sweep,
)

ADDED = (
    stages.add,
    estimate.add,
    estimate.add_profile,
    parts.add_score,
    sweep.add,
    slurm.add,
    stages.add_status,
    report.add,
    report.add_plot,
    report.add_leaderboard,
    evaluate.add,
    judge.add,
    robust.add,
    metrics.add,
    check.add,
    recipes.add,
    recipes.add_show,
    data.add,
    parts.add_merge,
    labels.add,
    parts.add_students,
    export.add,
    recipes.add_schema,
    doctor.add_completion,
    doctor.add,
    bench.add,
)
"""adds commands, in the order of ``fastdd --help``"""
TEXT = (
    "Turn a large set of labelled images into a tiny one that trains networks almost as well, and compare it "
    "with as many random real images."
)
FIRST = (
    "Begin with `fastdd run digits`, which takes about two minutes. `fastdd recipes` lists what else there "
    "is, `fastdd COMMAND --help` explains a command, and `fastdd doctor` looks at this machine."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastdd", description=TEXT, epilog=FIRST)
    parser.add_argument("--version", action="version", version=f"fastdd {__version__}")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in ADDED:
        add(commands)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; overrides may also follow options, where argparse alone does not take them."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    after = [before for before, word in zip(["", *words], words, strict=False) if not word]
    if set(after) - {"--students"}:  # whose empty name is that of the section student
        raise InputError("an argument is an empty text, as a variable of the shell is that has no value")
    arguments, rest = parser.parse_known_args(words)
    if rest and (
        any(text.startswith("-") or "=" not in text for text in rest) or "overrides" not in arguments
    ):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    0: done; 1: problems were found; 2: bad input, too little memory, or students that diverged (all else is
    done then), told in one line; 128 + number: ended by a signal.
    """
    print_all_letters()
    with _noted_signals() as signals:
        try:
            arguments = _parse(argv)
            with refusals_explained():
                return arguments.run(arguments) or 0
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except BaseException as error:
            # A signal that comes while a library is imported may end in any error of that library.
            if signals or isinstance(error, KeyboardInterrupt):
                number = signals[0] if signals else signal.SIGINT
                what = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
                print(f"{what}; the same command continues where it stopped", file=sys.stderr)
                return 128 + number
            text = _told(error)
            if text is None:
                raise
            print("error: " + "\\n".join(text.splitlines()), file=sys.stderr)
            return 2


# -- what ends a command from outside --------------------------------------------------------------

_MEMORY = (
    "the memory does not suffice; end other programs, choose smaller images (data.size), smaller "
    "batches (bank.batch, student.batch, recover.unit_images) or a machine with more; the same command "
    "continues where it stopped"
)
_MEMORY_TEXTS = ("t allocate memory", "annot allocate memory", "failed to map segment", "bad_alloc")
"""what torch, and the loader of libraries, say where memory ran out"""


def _told(error: BaseException) -> str | None:
    """What is told of an error in place of its traceback; None: it is a defect of fastdd."""
    if isinstance(error, InputError):
        return str(error)
    if _out_of_memory(error):
        return _MEMORY
    return None


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that memory ran out."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = isinstance(error, RuntimeError | ImportError | OSError) and any(
        text in str(error) for text in _MEMORY_TEXTS
    )
    return said or _out_of_memory(error.__cause__ or error.__context__)


@contextmanager
def _noted_signals() -> Iterator[list[signal.Signals]]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does; the signals that came are listed.

    What the parent process ignores, as nohup does, stays ignored.
    """
    came: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if number not in before and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
