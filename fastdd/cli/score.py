"""How hard each real image is to learn: ``fastdd score RECIPE``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.console import counted
from .console import say
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

HELP = "train the recipe's teacher network and note how hard each real image is, for coresets"
TEXT = (
    "Train the recipe's teacher network with the settings of its section teacher, whether its weights are "
    "given or not, and note how hard each real image was. Arms with init el2n, forgetting, aum or ccs rank "
    "by that: give them the file with teacher.scores=FILE. A run that trains its teacher notes it by itself."
)


def add(commands: Commands) -> None:
    score = commands.add_parser("score", help=HELP, description=TEXT)
    recipe_arguments(score)
    score.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the real images (default: teacher.epochs)"
    )
    score.add_argument(
        "--out", metavar="FILE", help="the file (default: runs/ and the recipe's name, -scores.safetensors)"
    )
    score.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> None:
    from ..runs.scoring import score

    recipe = resolved_recipe(arguments).recipe
    file = Path(arguments.out or f"runs/{recipe.name}-scores.safetensors")
    found = score(recipe, file, arguments.epochs)
    say(f"scores of {counted(len(found), 'image')}: {file}; give them to a run with teacher.scores={file}")
