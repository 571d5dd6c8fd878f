"""How a run is made again: a command that works, and what must be there beside it."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import JsonValue

from ..config import Recipe, as_plain
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


SAVED = "recipe.yaml lies in the run's folder and is the recipe below, in which every value is resolved."


def reproduction(recipe: Recipe) -> Reproduction:
    """How a run with this resolved recipe is made again: by its name where it is a built-in one unchanged,
    else by the recipe that the run's folder holds."""
    given = [name for name, value in _objects(recipe).items() if value.startswith("object:")]
    if given:
        arguments = "".join(f", {name}={name}" for name in given)
        return Reproduction(
            f'fastdd.run("recipe.yaml", "again"{arguments})',
            f"{SAVED} The run was given objects from Python, which it does not hold: {', '.join(given)}.",
        )
    if recipe.name in recipe_names() and _means(as_plain(resolve(recipe.name).recipe), as_plain(recipe)):
        return Reproduction(f"fastdd run {recipe.name} --out again", "Every value of the recipe is below.")
    return Reproduction(
        "fastdd run recipe.yaml --out again",
        f"{SAVED} Files, and code of your own, that it names must be where it says.",
    )


def _objects(recipe: Recipe) -> dict[str, str]:
    """The values that name an object where one was given to ``fastdd.run``, by its argument."""
    return {"data": recipe.data.root, "teacher": recipe.teacher.network, "student": recipe.student.network}


def _means(written: JsonValue, run: JsonValue) -> bool:
    """Whether a run's values are what a recipe's are on its machine and for its images, where ``auto`` and
    ``convnet`` become something else."""
    if isinstance(written, dict) and isinstance(run, dict):
        return written.keys() == run.keys() and all(_means(written[key], run[key]) for key in run)
    return written == run or written in ("auto", "convnet")
