"""Networks that a program gives to ``fastdd.run`` as objects, put into a recipe under a name."""

from __future__ import annotations

from ..config import Recipe
from ..errors import InputError
from ..models.doors import give_object


def with_given_networks(recipe: Recipe, teacher: object | None, student: object | None) -> Recipe:
    """The recipe with the names of given networks in place of its own.

    Args:
        teacher: a trained module, which is not trained further. None: the recipe's teacher.
        student: a function that builds a network, or a module that is copied and initialized anew for each
            seed. None: the recipe's student.

    Raises:
        InputError: an object is no network, or the recipe gives the teacher other weights.
    """
    changes: dict[str, object] = {}
    if teacher is not None:
        for key, path in (("weights", recipe.teacher.weights), ("init", recipe.teacher.init)):
            if path is not None:
                raise InputError(
                    f"teacher.{key} is {path}, but the module given as teacher brings its own weights; set "
                    f"teacher.{key}=null, or give no module"
                )
        network = {"network": give_object("teacher", teacher)}
        changes["teacher"] = recipe.teacher.model_copy(update=network)
    if student is not None:
        network = {"network": give_object("student", student)}
        changes["student"] = recipe.student.model_copy(update=network)
    return recipe.model_copy(update=changes)
