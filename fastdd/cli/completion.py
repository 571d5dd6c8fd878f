"""``fastdd completion bash|zsh|fish``: a script that completes commands and options."""

from __future__ import annotations

import argparse

from ..errors import InputError
from .options import Commands

TEXT = (
    "Print the script with which a shell completes commands and options, for example: fastdd completion bash "
    "> ~/.local/share/bash-completion/completions/fastdd"
)


def add(commands: Commands) -> None:
    command = commands.add_parser("completion", help="print a shell's completion script", description=TEXT)
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
