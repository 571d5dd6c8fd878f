"""The one error that a user causes and can mend."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input: the message names the value, what was expected and what to do.

    The command line prints it alone, without a traceback, and exits with status 2.
    """


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Turn the system's refusal to open or write a file in a block into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}") from error


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
