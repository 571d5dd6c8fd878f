"""Parts of runs that other runs take: ``fastdd score RECIPE``, ``fastdd merge BANK... --out DIR`` and
``fastdd students export RUN``.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..runtime.console import counted
from .console import new_table, say, show_table
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

SCORE_HELP = "train the recipe's teacher network and note how hard each real image is, for coresets"
SCORE = (
    "Train the recipe's teacher network with the settings of its section teacher, whether its weights are "
    "given or not, and note how hard each real image was. Arms with init el2n, forgetting, aum or ccs rank "
    "by that: give them the file with teacher.scores=FILE. A run that trains its teacher notes it by itself."
)


def add_score(commands: Commands) -> None:
    score = commands.add_parser("score", help=SCORE_HELP, description=SCORE)
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


MERGE = (
    "Make one bank of several. A bank holds the statistics of the real images, class by class; those of "
    "other classes stand side by side, and those of other images of the same classes are added up."
)


def add_merge(commands: Commands) -> None:
    merge = commands.add_parser(
        "merge",
        help="make one bank of banks that hold different classes or different images",
        description=MERGE,
    )
    merge.add_argument("banks", nargs="+", metavar="BANK", help="the folder bank/ of a run, finished or not")
    merge.add_argument("--out", metavar="DIR", required=True, help="the new folder")
    merge.set_defaults(run=_merge)


def _merge(arguments: argparse.Namespace) -> None:
    from ..bank import merge

    whole = merge([Path(bank) for bank in arguments.banks], Path(arguments.out))
    state = "a whole bank" if whole else "some classes are still lacking; merge again with them"
    print(f"{arguments.out}: {state}")


STUDENTS = "Take out of a run the students that it has kept, as weights for other programs or as teachers."


def add_students(commands: Commands) -> None:
    parser = commands.add_parser("students", help="take trained students out of a run", description=STUDENTS)
    students = parser.add_subparsers(dest="students_command", required=True, metavar="COMMAND")
    export = students.add_parser(
        "export",
        help="copy the weights that a run with student.keep=true has kept",
        description="Copy the students that a run with student.keep=true has kept: weights as safetensors, "
        "each with a card. A copy can be a teacher: teacher.weights=FILE.",
    )
    export.add_argument("set", metavar="RUN", help="the run folder")
    export.add_argument(
        "--arm", metavar="NAME", help="those of this arm, of random or of full alone (default: all)"
    )
    export.add_argument(
        "--students",
        metavar="NAME",
        help="those of this name in the recipe's section students alone (default: all)",
    )
    export.add_argument("--seed", type=int, metavar="N", help="those of this seed alone (default: all)")
    export.add_argument(
        "--out",
        metavar="PATH",
        required=True,
        help="a folder, or for one student a new file NAME.safetensors",
    )
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from ..run_folder import require_run
    from ..runs.kept_students import export_students

    exported = export_students(
        require_run(Path(arguments.set)),
        Path(arguments.out),
        arm=arguments.arm,
        kind=arguments.students,
        seed=arguments.seed,
    )
    rows = new_table("learned from", "seed", "network", "accuracy %", "file")
    for path, card, schooling in exported:
        reached = "-" if card.accuracy is None else f"{100 * card.accuracy:.1f}"
        learned = " ".join(filter(None, (schooling.students, schooling.set)))
        rows.add_row(learned, str(schooling.seed), card.network, reached, str(path))
    show_table(rows)
    path, card, _ = exported[0]
    words = [f"teacher.weights={path}", f"teacher.network={card.network}", "teacher.minimum_accuracy=0"]
    say(f"as a teacher: {shlex.join(words)}")
