"""How tables and numbers are printed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..runtime.console import console

if TYPE_CHECKING:
    from rich.table import Table

    from ..run_folder.comparison import Fractions


def say(text: str) -> None:
    """Print text as it stands; a long line is not broken, so that a path in it can be copied."""
    console().print(text, soft_wrap=True)


def new_table(*headings: str) -> Table:
    """A table without lines, and so far without rows."""
    from rich.table import Table

    return Table(*headings, box=None)


def rows_table(rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines and headings."""
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def show_table(rows: Table) -> None:
    """Print a table, whose cells are text as it stands."""
    console().print(rows)


def follow(looks: Iterable[Sequence[tuple[str, str]]], untold: Collection[str] = ()) -> None:
    """Show rows of a heading and a text in place on a terminal, as they change; in a file or a pipe print
    those that are new, line by line.

    Args:
        untold: headings of rows that only a terminal shows.
    """
    from rich.live import Live

    terminal = console()
    if not terminal.is_terminal:
        shown: Sequence[tuple[str, str]] = ()
        for rows in looks:
            for heading, text in rows:
                if (heading, text) not in shown and heading not in untold:
                    print(f"{heading}: {text}", flush=True)
            shown = rows
        return
    with Live(console=terminal, auto_refresh=False) as live:
        for rows in looks:
            live.update(rows_table(rows), refresh=True)


def spread(values: Fractions) -> str:
    """``mean_text`` of fractions, which is imported when a command needs it."""
    from ..run_folder.comparison import mean_text

    return mean_text(values)


def with_deviation(value: float, deviation: float | None, digits: int) -> str:
    """A value and its standard deviation, where it has one: ``27.2 ± 0.4``."""
    return f"{value:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def work_text(multiply_adds: int | None) -> str:
    """Billions of multiply-adds; a dash where they are not counted."""
    return "-" if multiply_adds is None else f"{multiply_adds / 1e9:.4g}"


def refuse_diverged(lines: Sequence[str], remedy: str) -> None:
    """End a command whose results lack the accuracies of students that diverged.

    Args:
        lines: a line for each set of which students diverged; empty: none did.

    Raises:
        InputError: some did. All other results were printed before.
    """
    for line in lines:
        say(f"no accuracy: {line}")
    if lines:
        number = f"{len(lines)} sets" if len(lines) > 1 else "a set"
        raise InputError(
            f"students of {number} diverged, which are told above and have no accuracy; {remedy}"
        )
