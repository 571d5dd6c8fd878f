"""Recipes: ``fastdd recipes`` lists them, ``fastdd show RECIPE`` prints every value."""

from __future__ import annotations

import argparse
from typing import Any

from .console import console
from .stages import recipe_arguments


def add(commands: Any) -> None:
    show = commands.add_parser("show", help="print a recipe with every value and where it comes from")
    recipe_arguments(show)
    show.set_defaults(run=_show)
    commands.add_parser("recipes", help="list the built-in recipes").set_defaults(run=_recipes)


def _show(arguments: argparse.Namespace) -> None:
    from rich.table import Table

    from ..recipes.resolve import resolve, table

    rows = Table("key", "value", "set by", "source", title=None, box=None, header_style="bold")
    for path, value, origin, source in table(resolve(arguments.recipe, arguments.overrides, arguments.add)):
        rows.add_row(path, "null" if value is None else str(value), origin, source)
    console().print(rows)


def _recipes(arguments: argparse.Namespace) -> None:
    from rich.table import Table

    from ..recipes.presets import data_set, dataset_names, method_names, read, single_names

    rows = Table("recipe", "what it does", box=None, header_style="bold")
    for name in single_names():
        rows.add_row(name, str(read(name).values["description"]))
    for name in dataset_names():
        rows.add_row(
            f"{name}-METHOD",
            f"{data_set(name, name)['description']}, METHOD one of: {', '.join(method_names())}",
        )
    console().print(rows)
