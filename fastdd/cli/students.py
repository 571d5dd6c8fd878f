"""``fastdd students export RUN``: weights of students that a run has kept."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from .console import new_table, say, show_table
from .options import Commands

TEXT = "Take out of a run the students that it has kept, as weights for other programs or as teachers."


def add(commands: Commands) -> None:
    parser = commands.add_parser("students", help="take trained students out of a run", description=TEXT)
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
