"""Regimes: where the labels that students learn come from, all else being equal.

    hard      the classes of the images; neither soft labels nor the teacher
    fixed     stored soft labels, one of each image or a pool of views (section ``labels``); no teacher while
              students are trained
    online    the teacher labels every view

These are the three of "Hard Truths". The students of a kind take the same steps on the same batches in all of
them; mixed images have mixed classes where labels are hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from pydantic import JsonValue

from ..errors import InputError, suggestion
from .student import Student
from .yaml_text import shown

Regime = Literal["hard", "fixed", "online"]
REGIMES: dict[Regime, dict[str, JsonValue]] = {
    "hard": {"labels": "hard", "hard_weight": 0.0, "label_stages": None},
    "fixed": {"labels": "stored"},
    "online": {"labels": "online"},
}
"""regime -> the values of a section ``student`` that make it"""
OF_LABELS = {str(values["labels"]): name for name, values in REGIMES.items()}
"""``student.labels`` -> the regime"""


def regime_of(student: Student) -> Regime:
    """The regime of students of a kind."""
    return OF_LABELS[student.labels]


def read_regimes(given: object, origin: str) -> list[Regime]:
    """The regimes that a text such as ``hard,online``, or a list of names, asks for.

    Args:
        origin: who asks, for messages.

    Raises:
        InputError: none is named, one is unknown or named twice.
    """
    names: Sequence[object] = given if isinstance(given, list | tuple) else []
    if isinstance(given, str):
        names = [name.strip() for name in given.strip("[] ").split(",") if name.strip()]
    for name in names:
        if name not in REGIMES:
            raise InputError(
                f"{origin}: unknown regime {name!r}{suggestion(str(name), REGIMES)}; known: "
                f"{', '.join(REGIMES)}"
            )
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"{origin}: expected one or more of {', '.join(REGIMES)}, each once, such as hard,fixed,online; "
            f"got {shown(given)}"
        )
    return cast("list[Regime]", list(names))


def in_regime(student: Student, regime: Regime) -> Student:
    """Students of the same kind in a regime; those that are in it stay as they are."""
    if regime_of(student) == regime:
        return student
    return Student.model_validate({**dict(student), **REGIMES[regime]})
