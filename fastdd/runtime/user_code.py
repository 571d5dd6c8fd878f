"""Code that is not fastdd's: functions named as ``package.module:function``, and how its errors are told."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ..errors import InputError, suggestion

FUNCTION = re.compile(r"[A-Za-z_]\w+(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""``package.module:function``; a first part of one letter is a drive of Windows."""


FAILURES = (Exception, SystemExit)
"""What other people's code may raise; ``sys.exit`` in a module that is imported would end fastdd silently."""


def reason(error: BaseException) -> str:
    """An error of other people's code in one line: its type and the first line of its message."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def import_function(name: str) -> Callable[..., object]:
    """The function or class ``package.module:function``; the current directory is searched first.

    Raises:
        InputError: the module cannot be imported, or has no such function.
    """
    module_name, _, function = name.partition(":")
    here = str(Path.cwd())
    if sys.path[:1] not in ([""], [here]):
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except FAILURES as error:  # importing executes the user's module
        raise InputError(
            f"{name} cannot be imported ({reason(error)}); modules are looked for in {here} "
            "and among the installed packages"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        functions = [each for each, value in vars(module).items() if callable(value)]
        raise InputError(
            f"{module_name} ({getattr(module, '__file__', 'built in')}) has no function {function!r}"
            f"{suggestion(function, functions)}"
        )
    return found
