"""A recipe with what ``precision: auto`` and ``network: convnet`` mean where it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..config import Bank, Experts, Networks, Precision, Recipe, Recover, Student, Teacher
from ..config.naming import student_section, teacher_section

Precise = TypeVar("Precise", Teacher, Bank, Experts, Recover, Student)
"""a part of a recipe that has a precision"""
Named = TypeVar("Named", Teacher, Student, Networks)
"""a part of a recipe that names a network"""


def with_precision(recipe: Recipe, meant: Callable[[str, Precision], Precision]) -> Recipe:
    """The recipe with every precision as it is meant.

    Args:
        meant: a key and the precision there -> the one that is used.
    """

    def settled(section: str, config: Precise) -> Precise:
        return config.model_copy(update={"precision": meant(f"{section}.precision", config.precision)})

    changed = {name: settled(name, getattr(recipe, name)) for name in ("bank", "experts", "recover")}
    return _of_teachers_and_students(recipe.model_copy(update=changed), settled)


def with_networks(recipe: Recipe, meant: Callable[[str, str, bool], str]) -> Recipe:
    """The recipe with every network by the name that is meant.

    Args:
        meant: a key, the name there, and whether the network follows experts -> the name that is used.
    """

    def settled(section: str, config: Named, follows: bool = False) -> Named:
        return config.model_copy(update={"network": meant(f"{section}.network", config.network, follows)})

    arms = dict(recipe.arms)
    for arm, method in arms.items():
        if (match := method.match) is not None and match.kernel is None:
            networks = settled(f"arms.{arm}.match.networks", match.networks, match.trajectory is not None)
            matched = match.model_copy(update={"networks": networks})
            arms[arm] = method.model_copy(update={"match": matched})
    return _of_teachers_and_students(recipe.model_copy(update={"arms": arms}), settled)


def _of_teachers_and_students(recipe: Recipe, settled: Callable[..., object]) -> Recipe:
    teachers = {name: settled(teacher_section(name), each) for name, each in recipe.all_teachers.items()}
    students = {name: settled(student_section(name), each) for name, each in recipe.all_students.items()}
    own = {"teacher": teachers.pop(""), "student": students.pop("")}
    return recipe.model_copy(update={**own, "committee": teachers, "students": students})
