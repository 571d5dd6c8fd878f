"""Functions of the user's, named as ``package.module:function``: they build networks or return data sets."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ..errors import InputError, suggestion

FUNCTION = re.compile(r"[A-Za-z_]\w+(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""``package.module:function``; a first part of one letter is a drive of Windows."""


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
    except Exception as error:  # importing executes the user's module
        raise InputError(
            f"{name} cannot be imported ({type(error).__name__}: {error}); modules are looked for in {here} "
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
