"""What is built in, by name: recipes of their own, and DATASET-METHOD for every data set and method.

A data set is a small file in recipes/datasets/: where its images are, the teacher and how it is trained, students. What
a method does on it stands with the method. A recipe in a file takes a data set with ``dataset: NAME``.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ..config.sources import parse_yaml
from ..errors import InputError, suggestion
from ..methods import METHODS, committee, declaration, dire

NAMES = [name for name in METHODS if name != "custom"] + ["dire"]
"""methods that a recipe's name may end in; ``dire`` is SRe2L + DiRe as released"""


def _stems(*folders: str) -> list[str]:
    """Names of the recipe files in a folder of the package, sorted."""
    files = resources.files("fastdd.recipes").joinpath(*folders).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def dataset_names() -> list[str]:
    """Names of the data sets that recipes are composed for."""
    return _stems("datasets")


def single_names() -> list[str]:
    """Names of the built-in recipes that have a file of their own."""
    return _stems()


def recipe_names() -> list[str]:
    """Names of all built-in recipes, sorted."""
    return sorted(
        [*single_names(), *(f"{dataset}-{method}" for dataset in dataset_names() for method in NAMES)]
    )


def parse(text: str, origin: str) -> dict[str, Any]:
    """A document, which must be a mapping.

    Raises:
        InputError: it is not YAML, or something else.
    """
    try:
        document = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{origin} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise InputError(
            f"{origin} must be a mapping with a section `arms`, one entry for each method to compare"
        )
    return document


def data_set(name: Any, origin: str) -> dict[str, Any]:
    """The document of a data set, which is not to be changed.

    Args:
        origin: who asks for it, for the message.

    Raises:
        InputError: no such data set.
    """
    if name not in dataset_names():
        known = dataset_names()
        raise InputError(
            f"{origin}: unknown dataset {name!r}{suggestion(str(name), known)}; known: {', '.join(known)}. For images "
            "of your own give data.root instead"
        )
    return _data_set(name)


@cache
def _data_set(name: str) -> dict[str, Any]:
    return parse(
        resources.files("fastdd.recipes").joinpath("datasets", f"{name}.yaml").read_text(), f"data set {name}"
    )


def read(name: str) -> tuple[str, dict[str, Any]]:
    """(origin, document) of a built-in recipe or of a YAML file.

    Raises:
        InputError: no such recipe or file, or a file that is no recipe.
    """
    origin = f"recipe {name}"
    if name in single_names():
        document = parse(resources.files("fastdd.recipes").joinpath(f"{name}.yaml").read_text(), origin)
    elif name in recipe_names():
        return origin, composed(*name.split("-"))
    elif name.endswith((".yaml", ".yml")):
        origin = name
        if not Path(name).is_file():
            raise InputError(f"recipe file {name} does not exist")
        try:
            document = parse(Path(name).read_text(encoding="utf-8"), name)
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not text in UTF-8 ({error})") from error
    elif name in dataset_names():
        raise InputError(f"{name!r} is a data set; say with which method, for example {name}-deda")
    else:
        raise InputError(
            f"unknown recipe {name!r}{suggestion(name, recipe_names())}; `fastdd recipes` lists them, "
            "or give a .yaml file"
        )
    if not isinstance(document.get("arms"), dict):
        raise InputError(
            f"{origin} must be a mapping with a section `arms`, one entry for each method to compare"
        )
    if not isinstance(document.get("method", {}), dict):
        raise InputError(f"{origin}: the section `method` must be a mapping, got {document['method']!r}")
    if bad := [arm for arm in document["arms"] if not isinstance(arm, str)]:
        raise InputError(f"{origin}: arms.{bad[0]}: the name of an arm must be text; put it in quotes")
    return origin, document


def composed(dataset: str, method: str) -> dict[str, Any]:
    """The document of DATASET-METHOD: one arm, and the method's further teachers where it hears several."""
    if method == "dire":
        arm, base, section = "sre2l+dire", "sre2l", {"add": ["dire"], **dire.released(dataset)}
    else:
        arm, base, section = method, method, {}
    title = declaration(base)["title"].value + (" + DiRe" if method == "dire" else "")
    where = data_set(dataset, dataset)["description"]
    return {
        "dataset": dataset,
        "description": f"{title} on {where}.",
        "committee": committee(method, dataset),
        "arms": {arm: {"method": base, **section}},
    }
