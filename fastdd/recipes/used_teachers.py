"""Which teachers of a recipe work: those that an arm recovers with, those that label, and the run's own.

Teachers have numbers: the run's own is 0, those of the committee follow in the order of the recipe. A member
that no arm uses, as with `--arms`, keeps its number, but it is neither trained nor loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import CONTROL, Method, Recipe


def teachers_used(method: Method, committee: Sequence[str]) -> tuple[int, ...]:
    """The numbers of a run's teachers that a method recovers with; the first is the run's own.

    Args:
        committee: names of the run's further teachers.
    """
    if method.ensemble == "first" and method.offset is None:
        return (0,)
    chosen = committee if method.committee is None else method.committee
    return (0, *(number for number, name in enumerate(committee, 1) if name in chosen))


def teachers_labelling(recipe: Recipe, arm: str, student: str = "") -> tuple[int, ...]:
    """The numbers of the teachers that label an arm's images for students of a kind.

    It is the run's own teacher or, with ``labels.teachers: all``, also the committee, or those of it that
    the arm names. The control and the whole training set have the teachers that label every arm which the
    students learn from.
    """
    if recipe.labels.teachers == "first":
        return (0,)
    arms = [arm] if arm in recipe.arms else [each for each in recipe.arms if recipe.learns(student, each)]
    chosen = [recipe.arms[each].committee for each in arms]
    everywhere = set(recipe.committee).intersection(*(names for names in chosen if names is not None))
    return (0, *(n for n, name in enumerate(recipe.committee, 1) if name in everywhere))


def working_teachers(recipe: Recipe) -> dict[int, str]:
    """Number -> name of the teachers that a run needs; the run's own comes first and has an empty name.

    A recipe without arms is there for its teachers, and one that keeps snapshots is shown as it trains.
    """
    names = ["", *recipe.committee]
    if not recipe.arms:
        return dict(enumerate(names))
    numbers = {0, *(n for n, config in enumerate(recipe.committee.values(), 1) if config.snapshots)}
    for method in recipe.arms.values():
        numbers.update(teachers_used(method, list(recipe.committee)))
    for student in ("", *recipe.students):
        for arm in (CONTROL, *recipe.arms):
            if recipe.learns(student, arm):
                numbers.update(teachers_labelling(recipe, arm, student))
    return {number: names[number] for number in sorted(numbers)}
