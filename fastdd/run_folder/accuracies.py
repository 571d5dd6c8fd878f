"""Fractions of the students of one set, where a student that diverged has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

Fractions: TypeAlias = Sequence[float | None]
"""test accuracies as fractions, one a student; None: the student diverged"""
EvaluatedOn = Literal["test", "validation"]
"""the split that students are tested on"""


def of_all(accuracies: Fractions) -> list[float] | None:
    """The accuracies where every student has one; None: some diverged, and the mean of the rest misleads."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return known if len(known) == len(accuracies) else None


def diverged_text(accuracies: Fractions) -> str:
    """How many students have no accuracy, such as ``2 of 3 diverged``; empty: all have one."""
    lost = sum(accuracy is None for accuracy in accuracies)
    return f"{lost} of {len(accuracies)} diverged" if lost else ""


def best_title(evaluated_on: EvaluatedOn, reported: Literal["last", "best"]) -> str | None:
    """What the best of a student's test passes is called; None: it is not told.

    The best is a choice, so it is told of the validation images. Of the test images it is told only where the
    protocol's authors report it.
    """
    if evaluated_on == "validation":
        return "best on validation"
    return "best on the test set" if reported == "best" else None
