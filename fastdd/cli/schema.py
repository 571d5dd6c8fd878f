"""``fastdd schema``: a JSON schema of recipes, with which editors complete and check YAML."""

from __future__ import annotations

import argparse
import json

from .options import Commands

TEXT = (
    "Print the JSON schema of recipes. An editor with the YAML language server completes a recipe that "
    "begins with the line: # yaml-language-server: $schema=recipe.schema.json, where `fastdd schema > "
    "recipe.schema.json` wrote that file."
)


def add(commands: Commands) -> None:
    commands.add_parser(
        "schema", help="print the JSON schema of recipes, for editors", description=TEXT
    ).set_defaults(run=_schema)


def _schema(arguments: argparse.Namespace) -> None:
    from ..recipes.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
