"""Networks from elsewhere: objects that a program gives to ``fastdd.run``, put into a recipe under a name;
teachers whose weights torchvision or timm released.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..config import Recipe, Teacher
from ..config.naming import teacher_section
from ..errors import InputError
from ..models.doors import give_object
from ..recipes.used_teachers import working_teachers
from ..runtime.distributed import barrier, is_main
from ..runtime.hub import download_named
from ..teachers.released import Released, released


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


def _named(recipe: Recipe) -> Iterator[tuple[str, Teacher, Released]]:
    """The sections of teachers whose ``weights`` or ``init`` are released ones, with these weights."""
    sections = {teacher_section(name): each for name, each in recipe.all_teachers.items()}
    for section, config in sections.items():
        for key, text in (("weights", config.weights), ("init", config.init)):
            found = released(f"{section}.{key}", text, config.network)
            if found is not None:
                yield section, config, found


def _working(recipe: Recipe) -> set[str]:
    """The sections of the teachers that a run needs."""
    return {teacher_section(name) for name in working_teachers(recipe).values()}


def download_teachers(recipe: Recipe) -> None:
    """Download into the cache what a recipe's teachers lack there; the main process of torchrun does it.

    Raises:
        InputError: weights are unknown, or cannot be downloaded.
    """
    if is_main():
        working = _working(recipe)
        for section, _, found in _named(recipe):
            if section in working:
                found.download()
    barrier()


def download_data(recipe: Recipe) -> None:
    """Download into the cache the data sets of the hub that a recipe names: its real images, and what arms
    start from; the main process of torchrun does it.

    Raises:
        InputError: one cannot be downloaded.
    """
    if is_main():
        download_named([recipe.data.root, *(arm.candidates for arm in recipe.arms.values())])
    barrier()


def with_released(recipe: Recipe) -> Recipe:
    """The recipe with the mean and std of given weights in place of its own, so that the run folder says
    them.

    Raises:
        InputError: weights are unknown or not in the cache, or teachers of a committee were trained with
            other constants than the run's teacher.
    """
    sections = {teacher_section(name): each for name, each in recipe.all_teachers.items()}
    given, working = False, _working(recipe)
    for section, config, found in _named(recipe):
        if section in working:
            found.file()
        if config.weights is not None:
            constants: dict[str, object] = {"mean": found.mean, "std": found.std}
            sections[section] = config.model_copy(update=constants)
            given = True
    if not given:
        return recipe
    teacher = sections.pop("teacher")
    for section, config in sections.items():
        if (config.mean, config.std) != (teacher.mean, teacher.std):
            raise InputError(
                f"{section} has mean {list(config.mean)} and std {list(config.std)}, but teacher has "
                f"{list(teacher.mean)} and {list(teacher.std)}; all see the same images, so use teachers of "
                "the same constants"
            )
    committee = {section.partition(".")[2]: config for section, config in sections.items()}
    return recipe.model_copy(update={"teacher": teacher, "committee": committee})
