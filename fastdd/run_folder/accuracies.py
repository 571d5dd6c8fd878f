"""Fractions of the students of one set, where a student that diverged has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Fractions: TypeAlias = Sequence[float | None]
"""test accuracies as fractions, one a student; None: the student diverged"""


def of_all(accuracies: Fractions) -> list[float] | None:
    """The accuracies where every student has one; None: some diverged, and the mean of the rest misleads."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return known if len(known) == len(accuracies) else None


def diverged_text(accuracies: Fractions) -> str:
    """How many students have no accuracy, such as ``2 of 3 diverged``; empty: all have one."""
    lost = sum(accuracy is None for accuracy in accuracies)
    return f"{lost} of {len(accuracies)} diverged" if lost else ""
