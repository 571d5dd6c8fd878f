"""How tables and numbers look on the terminal."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Any


def console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def spread(values: Sequence[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"
