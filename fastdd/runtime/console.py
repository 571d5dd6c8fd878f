"""The one console: what is printed is text, whatever brackets, colons or letters names and paths hold."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

UNITS = ("B", "kB", "MB", "GB", "TB")


def console(*, stderr: bool = False) -> Console:
    """The terminal; what is printed to a file or a pipe has 160 columns. No text is Rich's markup."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 160
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def print_all_letters() -> None:
    """Let both streams escape letters that their encoding lacks, such as those of a name that is no UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def counted(number: int | str, noun: str) -> str:
    """A number, or a word for one, and what it counts: ``1 image``, ``by_ipc images``, ``2 classes``."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def rough_duration(seconds: float) -> str:
    """Seconds in the unit that suits them, in about three digits: ``3.2 h``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def bytes_text(count: float) -> str:
    """Bytes with three figures, in decimal units: ``301 kB``, ``1.42 MB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {UNITS[unit]}"
