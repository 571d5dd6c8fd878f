"""The one error that a user causes and can mend."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input: the message names the value, what was expected and what to do.

    The command line prints it alone, without a traceback, and exits with status 2.
    """


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Turn the system's refusal to open or write a file in a block into an InputError that names the file.

    Every command and every function of the API that reads or writes files runs inside.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        if error.encoding != encoding or encoding == "utf-8":
            raise
        letters = error.object[error.start : error.end]
        raise InputError(
            f"names of files are in {encoding} here, which lacks {letters!r}; start with PYTHONUTF8=1"
        ) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}") from error


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, [each for each in known if each != word], n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
