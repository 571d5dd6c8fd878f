"""An installation: ``fastdd doctor``, what this machine has and lacks; ``fastdd completion SHELL``, a script
that completes commands and options.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import InputError
from .console import rows_table, say, show_table
from .options import Commands

HELP = "say what this machine has, what works there, and the command that adds what is missing"
TEXT = (
    "Look at versions, GPU, driver, threads, memory and disk, and try torch.compile and a Triton kernel. "
    "Exit status 1: something that runs need does not work."
)


def add(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help=HELP, description=TEXT)
    doctor.add_argument("--out", metavar="DIR", default="runs", help="where runs are written (default: runs)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from ..runtime.doctor import examine

    found = examine(Path(arguments.out))
    faults = [each for each in found if each.state == "fault"]
    if arguments.json:
        print(json.dumps([vars(each) for each in found], indent=2))
        return bool(faults)
    states = {"ok": "ok", "absent": "-", "fault": "FAULT"}
    show_table(rows_table((each.name, states[each.state], each.text) for each in found))
    for each in found:
        if each.remedy:
            say(f"{each.name}: {each.remedy}")
    return bool(faults)


COMPLETION = (
    "Print the script with which a shell completes commands and options, for example: fastdd completion bash "
    "> ~/.local/share/bash-completion/completions/fastdd"
)


def add_completion(commands: Commands) -> None:
    command = commands.add_parser(
        "completion", help="print a shell's completion script", description=COMPLETION
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that you use")
    command.set_defaults(run=_completion)


def _completion(arguments: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise InputError(
            f"completion needs shtab ({error}); install it with `pip install 'fastdd[completion]'`"
        ) from error
    print(shtab.complete(arguments.parser, arguments.shell))
