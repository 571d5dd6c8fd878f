"""The built-in recipes by name: those in recipes/all.yaml, DATASET-METHOD for every data set and method, and
the items of papers.

In recipes/all.yaml recipes stand between lines ``---``, and each says its name. A data set is a section of
recipes/datasets/all.yaml, which says where its images are, how its teacher is trained, and how students are.
What a method does on the data set stands in the method's file. A recipe of the user's takes a data set with
``dataset: NAME``. A file in recipes/papers/ holds the recipes of one paper, between lines ``---``. Each makes
one table or figure, or several that show the same sets, and its ``items`` name them: each item is a recipe by
its own name, such as ``dire-table2``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple, cast

from ..config.sources import parse_recipe
from ..config.yaml_text import shown
from ..errors import InputError, suggestion
from ..methods import ADDITIONS, METHODS
from ..methods.declaration import SAME_IMAGES

PAPERS = ("deda.yaml", "dire.yaml")
"""files of recipes/papers/"""
NO_RECIPES = {
    "deda-figure2": "the figure draws DEDA's method; `fastdd recipes` lists the others",
    "deda-figure3": "its three panels are deda-figure3a (gamma), deda-figure3b and deda-figure3c",
    "dire-table1": "the table lists DiRe's notation; `fastdd recipes` lists the others",
}
"""tables and figures of the papers that are no recipe: what is to be said of them"""


@dataclass(frozen=True)
class Document:
    """A recipe as it is written, before validation.

    Attributes:
        origin: where it is from, for messages.
        values: the sections of the recipe but those below.
        method: values for every arm.
        arms: one section for each arm, by name.
        dataset: name of the data set that the recipe takes; None where it takes none.
        grid: key -> values of the sweep that makes the whole of a paper's item; empty: none is named.
        regimes: regimes in which all kinds of students are trained; None: each has its own labels alone.
    """

    origin: str
    values: dict[str, object]
    method: dict[str, object]
    arms: dict[str, object]
    dataset: object = None
    grid: dict[str, object] = field(default_factory=dict)
    regimes: object = None


class PaperItem(NamedTuple):
    """A table or figure of a paper: what it shows, in a sentence, and the YAML of its recipe."""

    title: str
    text: str


def method_names() -> list[str]:
    """Names that DATASET-METHOD may end in: methods, and additions, which stand on a method of their own."""
    return [*sorted(name for name in METHODS if name != "custom"), *sorted(ADDITIONS)]


def dataset_names() -> list[str]:
    """The names of the data sets that recipes are composed for, sorted."""
    return sorted(_data_sets())


def single_names() -> list[str]:
    """The names of the built-in recipes of recipes/all.yaml, sorted."""
    return sorted(_singles())


@cache
def _singles() -> dict[str, str]:
    """The YAML of each of these recipes by its name."""
    texts = _built_in("all.yaml").split("\n---\n")
    return {re.findall(r"^name: (.+)$", text, re.MULTILINE)[0]: text for text in texts}


def recipe_names() -> list[str]:
    """The names of all built-in recipes, sorted."""
    composed = [f"{dataset}-{method}" for dataset in dataset_names() for method in method_names()]
    return sorted([*single_names(), *composed, *paper_items()])


@cache
def paper_items() -> dict[str, PaperItem]:
    """The tables and figures of papers that are recipes, by name."""
    items: dict[str, PaperItem] = {}
    for paper in PAPERS:
        for text in _built_in("papers", paper).split("\n---\n"):
            titles = cast("dict[str, str]", _parsed(text, f"papers/{paper}")["items"])
            items |= {name: PaperItem(title, text) for name, title in titles.items()}
    return items


def _item(name: str) -> Document:
    """The recipe of a table or figure of a paper."""
    item = paper_items()[name]
    document = _document(item.text, f"recipe {name}")
    values = {key: value for key, value in document.values.items() if key != "items"}
    return replace(document, values={"description": item.title, **values})


def data_set(name: object, origin: str) -> dict[str, object]:
    """What is said of a data set; not to be changed.

    Args:
        origin: who asks for it, for the message.

    Raises:
        InputError: no such data set.
    """
    known = dataset_names()
    if not isinstance(name, str) or name not in known:
        raise InputError(
            f"{origin}: unknown dataset {name!r}{suggestion(str(name), known)}; known: {', '.join(known)}. "
            "For images of your own give data.root instead"
        )
    return _data_sets()[name]


@cache
def _data_sets() -> dict[str, dict[str, object]]:
    """What is said of each data set, by its name."""
    text = _built_in("datasets", "all.yaml")
    return cast("dict[str, dict[str, object]]", _parsed(text, "datasets/all.yaml"))


def read(name: str) -> Document:
    """A built-in recipe, or the one in a YAML file.

    Raises:
        InputError: no such recipe or file, or a file that is no recipe.
    """
    if name in _singles():
        return _document(_singles()[name], f"recipe {name}")
    if name in paper_items():
        return _item(name)
    if name in recipe_names():
        dataset, _, method = name.partition("-")
        return _composed(dataset, method)
    if name.endswith((".yaml", ".yml")):
        return _document(_file(name), name)
    if name in NO_RECIPES:
        raise InputError(f"{name} is no recipe: {NO_RECIPES[name]}")
    if name in dataset_names():
        raise InputError(f"{name!r} is a data set; say with which method, for example {name}-deda")
    raise InputError(
        f"unknown recipe {name!r}{suggestion(name, recipe_names())}; `fastdd recipes` lists them, or give a "
        ".yaml file"
    )


def _built_in(*path: str) -> str:
    """The text of a file of this package."""
    return resources.files("fastdd.recipes").joinpath(*path).read_text("utf-8")


def _file(name: str) -> str:
    """The text of a file of the user's."""
    try:
        if not Path(name).is_file():
            raise InputError(f"recipe file {name} does not exist")
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"recipe file {name} cannot be read ({error.strerror}); check it") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in UTF-8 ({error})") from error


def _parsed(text: str, origin: str) -> dict[str, object]:
    """The mapping that a YAML text holds."""
    document = parse_recipe(text, origin)
    if not isinstance(document, dict):
        raise _no_arms(origin)
    return document


def _no_arms(origin: str) -> InputError:
    return InputError(
        f"{origin} must be a mapping with a section `arms`, one entry for each method to compare"
    )


def _document(text: str, origin: str) -> Document:
    """The recipe that a YAML text holds."""
    values = dict(_parsed(text, origin))
    method, arms, dataset = values.pop("method", {}), values.pop("arms", None), values.pop("dataset", None)
    grid, regimes = values.pop("grid", {}), values.pop("regimes", None)
    if not isinstance(arms, dict):
        raise _no_arms(origin)
    if not isinstance(method, dict):
        raise InputError(f"{origin}: the section `method` must be a mapping, got {shown(method)}")
    if not isinstance(grid, dict) or not all(isinstance(each, list) and each for each in grid.values()):
        raise InputError(
            f"{origin}: the section `grid` must map keys to lists of values, such as {{ipc: [1, 10]}}, got "
            f"{grid!r}"
        )
    return Document(origin, values, method, arms=arms, dataset=dataset, grid=grid, regimes=regimes)


def _composed(dataset: str, method: str) -> Document:
    """The recipe DATASET-METHOD: one arm, and the method's further teachers where it uses several."""
    if method in ADDITIONS:
        addition = ADDITIONS[method]
        base, arm, suffix = addition.over, f"{addition.over}+{method}", f" + {addition.title}"
    else:
        base, arm, suffix = method, method, ""
    title = f"{METHODS[base].title(base)}{suffix}"
    description = f"{title} on {data_set(dataset, dataset)['description']}."
    declared = METHODS[base]
    values: dict[str, object] = {"description": description, "committee": declared.committee.get(dataset, {})}
    if values["committee"] and declared.labels and dataset not in SAME_IMAGES:
        values["labels"] = declared.labels
    return Document(
        f"recipe {dataset}-{method}", values, method={}, arms={arm: {"method": method}}, dataset=dataset
    )
