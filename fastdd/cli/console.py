"""How tables and numbers are printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runtime.console import console

if TYPE_CHECKING:
    from rich.table import Table


def say(text: str) -> None:
    """Print text as it stands; a long line is not broken, so that a path in it can be copied."""
    console().print(text, soft_wrap=True)


def show_table(rows: Table) -> None:
    """Print a table, whose cells are text as it stands."""
    console().print(rows)


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation of fractions, in percent: ``81.3 ± 0.4``."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"
