"""How a run is made again: a command that works, and what must be there beside it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import JsonValue

from ..config import Recipe, as_plain
from ..config.naming import value_text
from ..errors import InputError
from ..recipes.presets import recipe_names
from ..recipes.resolve import resolve


class Reproduction(NamedTuple):
    """How a run is made again.

    Attributes:
        command: a line for the terminal or, where objects were given from Python, for Python.
        note: what the line needs.
    """

    command: str
    note: str


MOST_OVERRIDES = 12
"""overrides that a command may have; recipe.yaml is shorter than more of them"""
SAVED = "recipe.yaml lies in the run's folder and is the recipe below, in which every value is resolved."


def reproduction(recipe: Recipe) -> Reproduction:
    """How a run with this resolved recipe is made again: by its name and the overrides that were given where
    it is a built-in one with a few, else by the recipe that the run's folder holds."""
    given = [name for name, value in _objects(recipe).items() if value.startswith("object:")]
    if given:
        arguments = "".join(f", {name}={name}" for name in given)
        return Reproduction(
            f'fastdd.run("recipe.yaml", "again"{arguments})',
            f"{SAVED} The run was given objects from Python, which it does not hold: {', '.join(given)}.",
        )
    overrides = _overrides(recipe) if recipe.name in recipe_names() else None
    if overrides is not None:
        command = shlex.join(["fastdd", "run", recipe.name, *overrides, "--out", "again"])
        note = " Files that it names must be where it says." if overrides else ""
        return Reproduction(command, f"Every value of the recipe is below.{note}")
    return Reproduction(
        "fastdd run recipe.yaml --out again",
        f"{SAVED} Files, and code of your own, that it names must be where it says.",
    )


def _objects(recipe: Recipe) -> dict[str, str]:
    """The values that name an object where one was given to ``fastdd.run``, by its argument."""
    return {"data": recipe.data.root, "teacher": recipe.teacher.network, "student": recipe.student.network}


def _overrides(recipe: Recipe) -> list[str] | None:
    """The overrides that make a built-in recipe this one; None: no few do."""
    wanted = as_plain(recipe)
    found = [
        f"{key}={value_text(value)}" for key, value in _changes(as_plain(resolve(recipe.name).recipe), wanted)
    ]
    if len(found) > MOST_OVERRIDES:
        return None
    try:
        made = as_plain(resolve(recipe.name, found).recipe)
    except InputError:  # such as values of arms that --add, and no override, makes
        return None
    return found if _means(made, wanted) else None


def _changes(written: JsonValue, run: JsonValue, key: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The dotted keys and values of a run that are not what a recipe's are."""
    if isinstance(written, dict) and isinstance(run, dict) and written.keys() >= run.keys():
        for name, value in run.items():
            yield from _changes(written[name], value, f"{key}.{name}" if key else name)
    elif not _means(written, run):
        yield key, run


def _means(written: JsonValue, run: JsonValue) -> bool:
    """Whether a run's values are what a recipe's are on its machine and for its images, where ``auto`` and
    ``convnet`` become something else."""
    if isinstance(written, dict) and isinstance(run, dict):
        return written.keys() == run.keys() and all(_means(written[key], run[key]) for key in run)
    return written == run or written in ("auto", "convnet")
