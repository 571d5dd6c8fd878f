"""Whether the device, the networks and the released weights that a recipe names exist, before any work.

Whoever shows, prices, submits or runs a recipe asks here first, so that all refuse a misspelt name alike.
What needs the data, such as the layers of a network, is refused by the run, which opens them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..config import Recipe
from ..config.naming import student_section, teacher_section
from ..errors import InputError, suggestion
from ..models.build import builder_of
from ..models.doors import DOORS, require_package
from ..models.registry import LARGE_IMAGES, NETWORKS
from ..runtime.devices import check_device_name
from .released import LIBRARIES, released


def check_names(recipe: Recipe) -> None:
    """Refuse what names no device, no network and no released weights. No code of the user's is imported.

    Whether the device is there, and the weights in the cache, is not asked: a recipe may be read on one
    machine and run on another.
    """
    check_device_name(recipe.device)
    for key, name in _networks(recipe):
        try:
            _check_network(name)
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    sections = {teacher_section(name): each for name, each in recipe.all_teachers.items()}
    for section, config in sections.items():
        for key, text in (("weights", config.weights), ("init", config.init)):
            if released(f"{section}.{key}", text, config.network) is None and text is not None:
                _check_file(f"{section}.{key}", text)


def _networks(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each key that names a network, and the name."""
    for name, teacher in recipe.all_teachers.items():
        yield f"{teacher_section(name)}.network", teacher.network
    for name, student in recipe.all_students.items():
        yield f"{student_section(name)}.network", student.network
    for arm, method in recipe.arms.items():
        if method.match is not None and method.match.kernel is None:
            yield f"arms.{arm}.match.networks.network", method.match.networks.network


def _check_network(name: str) -> None:
    door, colon, _ = name.partition(":")
    if colon and door == "object":
        return  # of another process; the run says so where it needs it
    if colon and door not in DOORS:
        require_package(name)
    elif name not in LARGE_IMAGES and all(NETWORKS[own].paper_name != name for own in NETWORKS):
        builder_of(name)


def _check_file(key: str, text: str) -> None:
    """Refuse released weights of a library whose name is misspelt, which would be taken for a file."""
    library, colon, name = text.partition(":")
    near = suggestion(library, LIBRARIES) if colon and not Path(text).exists() else ""
    if near:
        raise InputError(
            f"{key}: there is no file {text!r}{suggestion(text, [f'{each}:{name}' for each in LIBRARIES])}"
        )
