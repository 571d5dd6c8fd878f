"""Students and accuracies: ``fastdd evaluate RECIPE`` of a run, ``fastdd evaluate SET`` of a finished distilled set.

One command; what the argument is tells them apart: a recipe's name or file, or a folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .console import console, spread
from .stages import run_arguments, run_stage

if TYPE_CHECKING:
    from ..judge import Judgement

TEXT = "Students and metrics of a recipe's run; or of a distilled set, with the controls beside it."
OF_A_RECIPE = ("add", "out", "fresh")
OF_A_SET = ("student", "protocol", "teacher", "data", "resize", "arm", "seeds", "seed", "no_control", "full", "json")
"""options of one form that the other refuses"""


def add(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="stop after students and metrics; or judge SET", description=TEXT)
    run_arguments(evaluate)
    of_set = evaluate.add_argument_group("of a set", "RECIPE is a run's folder, or a folder of class folders")
    of_set.add_argument(
        "--student", metavar="NETWORKS", help="one or several, such as resnet18,convnet; papers: those of their tables"
    )
    of_set.add_argument("--protocol", metavar="NAME", help="how papers train students, such as sre2l-cifar or rded")
    of_set.add_argument("--teacher", metavar="FILE", help="weights with a card (default: the run's)")
    of_set.add_argument("--data", metavar="ROOT", help="the real images (default: the run's)")
    of_set.add_argument("--resize", type=int, metavar="PIXELS", help="their shorter side before the centre is cut out")
    of_set.add_argument("--arm", metavar="NAME", help="of a run with several")
    of_set.add_argument("--seeds", type=int, metavar="N", help="students a network (default: the protocol's)")
    of_set.add_argument("--seed", type=int, metavar="SEED", help="of controls and students (default: the run's, or 0)")
    of_set.add_argument("--no-control", action="store_true", help="leave out the random real images")
    of_set.add_argument("--full", action="store_true", help="also the full real set, under the same protocol")
    of_set.add_argument("--json", metavar="FILE", help="where the results go (default: evaluation-HASH.json in SET)")
    of_set.add_argument("--device", default="auto", help="auto, cpu or cuda")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from ..catalogue import recipe_names

    name = arguments.recipe
    is_recipe = name.endswith((".yaml", ".yml")) or name in recipe_names()
    if is_recipe or not Path(name).exists():
        _refuse(arguments, OF_A_SET, f"{name} is no distilled set")
        run_stage(arguments)
    else:
        _refuse(arguments, OF_A_RECIPE, f"{name} is a distilled set, no recipe")
        _judge(arguments)


def _refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    given = [
        f"--{option.replace('_', '-')}" for option in options if getattr(arguments, option) not in (None, [], False)
    ]
    if given:
        raise InputError(f"{why}, so {given[0]} says nothing; see `fastdd evaluate --help`")


def _judge(arguments: argparse.Namespace) -> None:
    from ..devices import device_of
    from ..judge import Judgement, Question

    question = Question(
        Path(arguments.recipe),
        [name for name in (arguments.student or "").split(",") if name],
        arguments.protocol,
        arguments.overrides,
        Path(arguments.teacher) if arguments.teacher else None,
        arguments.data,
        arguments.resize,
        arguments.arm,
        arguments.seeds,
        arguments.seed,
        not arguments.no_control,
        arguments.full,
        Path(arguments.json) if arguments.json else None,
    )
    _print(Judgement(question, device_of(arguments.device)))


def _print(judgement: Judgement) -> None:
    """Train, and print a row a student and a column a set."""
    from rich.table import Table

    from ..evaluate import protocol_hash, protocol_text
    from ..protocols import settled

    answer, card = judgement.answer(), judgement.teacher.card
    columns = [f"{arm.name} {which} %" for arm in judgement.arms for which in ("last", "best")]
    rows = Table("student", "protocol", *columns, box=None, header_style="bold")
    settled_ones = [settled(config, len(judgement.images), len(card.classes)) for config in judgement.configs]
    for config in settled_ones:
        found = [answer[config.network][arm.name][which] for arm in judgement.arms for which in ("last", "best")]
        rows.add_row(config.network, protocol_hash(config), *map(spread, found))
    out, first = console(), settled_ones[0]
    reached = f" {100 * card.accuracy:.1f} % on the full real set" if card.accuracy is not None else ""
    out.print(f"\n{judgement.set.path}: {len(judgement.images)} images; teacher {card.network}{reached}")
    out.print(rows)
    out.print(
        f"protocol {first.protocol}: {protocol_text(first)}; students a network: {first.seeds}; its authors report the "
        f"{first.reports}"
    )
    out.print(f"every student: {judgement.table.path}")
