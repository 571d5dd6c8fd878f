"""Recipes: ``fastdd recipes``, the built-in ones; ``fastdd show RECIPE``, every value and where it comes
from; ``fastdd schema``, with which editors complete and check them.
"""

from __future__ import annotations

import argparse
import json
import re

from .console import new_table, show_table
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

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


SHOW = (
    "Print every value of a recipe, who set it (the recipe, its data set, its method, its protocol, you, or "
    "a default), and whether the paper, its released code or fastdd says so."
)


def add_show(commands: Commands) -> None:
    show = commands.add_parser(
        "show", help="print every value of a recipe, who set it, and its source", description=SHOW
    )
    recipe_arguments(show)
    show.add_argument("--no-defaults", action="store_true", help="leave out the values that are defaults")
    show.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> None:
    from ..recipes.resolve import table
    from ..runtime.distributed import say_once

    rows = new_table("key", "value", "set by", "source")
    resolved = resolved_recipe(arguments)
    for row in table(resolved):
        if arguments.no_defaults and row.origin == "default":
            continue
        value = "null" if row.value is None else str(row.value)
        rows.add_row(row.path, value, row.origin, row.source)
    show_table(rows)
    say_once(resolved.note)
    # After the recipe has found all terms: a term of another package imports fastdd.recover itself.
    from ..recover import remarks

    for arm, method in resolved.recipe.arms.items():
        for remark in remarks(method):
            say_once(f"arms.{arm}: {remark}")


SCHEMA = (
    "Print the JSON schema of recipes. An editor with the YAML language server completes a recipe that "
    "begins with the line: # yaml-language-server: $schema=recipe.schema.json, where `fastdd schema > "
    "recipe.schema.json` wrote that file."
)


def add_schema(commands: Commands) -> None:
    commands.add_parser(
        "schema", help="print the JSON schema of recipes, for editors", description=SCHEMA
    ).set_defaults(run=_schema)


def _schema(arguments: argparse.Namespace) -> None:
    from ..recipes.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
