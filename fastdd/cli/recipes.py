"""``fastdd recipes``: the built-in recipes."""

from __future__ import annotations

import argparse
import re

from .console import new_table, show_table
from .options import Commands

TEXT = (
    "List the built-in recipes, each a run that is described by values, and the data sets and methods whose "
    "names make one: DATASET-METHOD, such as cifar10-deda. `fastdd show RECIPE` prints the values of one."
)


def add(commands: Commands) -> None:
    recipes = commands.add_parser("recipes", help="list the built-in recipes", description=TEXT)
    recipes.set_defaults(run=_recipes)


def _recipes(arguments: argparse.Namespace) -> None:
    from ..recipes.presets import data_set, dataset_names, method_names, paper_items, read, single_names

    rows = new_table("recipe", "what it does")
    for name in single_names():
        rows.add_row(name, str(read(name).values["description"]))
    for name in dataset_names():
        rows.add_row(f"{name}-METHOD", str(data_set(name, name)["description"]))
    show_table(rows)
    print(f" METHOD is one of: {', '.join(method_names())}")
    items = new_table("table or figure", "what it shows")
    for name in sorted(paper_items(), key=_natural):
        items.add_row(name, paper_items()[name].title)
    show_table(items)


def _natural(name: str) -> list[str | int]:
    """A key that sorts table2 before table10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
