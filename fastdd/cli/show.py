"""``fastdd show RECIPE``: every value of a recipe, and where it comes from."""

from __future__ import annotations

import argparse

from .console import new_table, show_table
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

TEXT = (
    "Print every value of a recipe, who set it (the recipe, its data set, its method, its protocol, you, or "
    "a default), and whether the paper, its released code or fastdd says so."
)


def add(commands: Commands) -> None:
    show = commands.add_parser(
        "show", help="print every value of a recipe, who set it, and its source", description=TEXT
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
