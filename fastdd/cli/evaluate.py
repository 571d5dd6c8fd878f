"""``fastdd evaluate RECIPE``, a stage of a run; ``fastdd evaluate SET``, students of a finished distilled
set.

The argument tells which is meant: the name or file of a recipe, or a folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import InputError, suggestion
from ..runtime.console import counted
from .console import new_table, refuse_diverged, say, show_table, spread
from .options import Commands, download, held, request_of, set_arguments, written_text
from .stages import run_arguments, run_stage

if TYPE_CHECKING:
    from ..evaluate.evaluation import Evaluation

TEXT = (
    "With a recipe: do a run up to students and metrics, and stop. With a distilled set: train students "
    "on it, on random real images and on the whole real training set, and print their accuracies."
)
WITH_RECIPE = ("add", "arms", "students", "out", "fresh")
WITH_SET = (
    "student",
    "protocol",
    "teacher",
    "teacher_network",
    "data",
    "resize",
    "on",
    "arm",
    "seeds",
    "seed",
    "no_control",
    "no_full_set",
    "json",
)
"""options that go with one kind of argument, which the other refuses"""


def add(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="train students of a recipe's run, or of a distilled set and its controls",
        description=TEXT,
    )
    run_arguments(evaluate)
    of_set = evaluate.add_argument_group(
        "options with a set",
        "In place of RECIPE give a run's folder, a folder of class folders, or hf:ORG/NAME.",
    )
    set_arguments(of_set)
    of_set.add_argument("--no-control", action="store_true", help="train no students of random real images")
    of_set.add_argument(
        "--no-full-set", action="store_true", help="train no students of the whole real training set"
    )
    of_set.add_argument(
        "--json", metavar="FILE", help="the file of results (default: evaluation-HASH.json in SET)"
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from ..recipes.presets import dataset_names, recipe_names
    from ..runtime.hub import is_hub

    name, recipes = arguments.recipe, [*recipe_names(), *dataset_names()]
    is_recipe = name.endswith((".yaml", ".yml")) or name in recipes
    if not is_recipe and not is_hub(name) and not Path(name).exists():
        beside = Path(name).parent
        folders = [str(each) for each in beside.iterdir() if each.is_dir()] if beside.is_dir() else []
        near = suggestion(name, [*folders, *recipes])
        raise InputError(
            f"{name} does not exist, and no recipe has that name{near}; give the folder of a distilled set, "
            "or a recipe that `fastdd recipes` lists"
        )
    if is_recipe:
        _refuse(arguments, WITH_SET, f"{name} is no distilled set")
        run_stage(arguments)
    else:
        _refuse(arguments, WITH_RECIPE, f"{name} is a distilled set, no recipe")
        download(arguments, name, arguments.data)
        _evaluate_set(arguments)


def _refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    given = [
        f"--{option.replace('_', '-')}"
        for option in options
        if getattr(arguments, option) not in (None, [], False)
    ]
    if given:
        raise InputError(f"{why}, so {given[0]} says nothing; see `fastdd evaluate --help`")


def _evaluate_set(arguments: argparse.Namespace) -> None:
    from ..evaluate.evaluation import open_evaluation
    from ..runtime.devices import device_of

    request = request_of(
        arguments,
        arguments.recipe,
        control=not arguments.no_control,
        full=False if arguments.no_full_set else "auto",
    )
    with held(request, "evaluate"):
        _print(open_evaluation(request, device_of(arguments.device)))


def _print(evaluation: Evaluation) -> None:
    """Train, and print a row a student and a column a set."""
    from ..config import FULL
    from ..config.student import regime_of
    from ..evaluate import protocol_hash, protocol_text
    from ..protocols import settle_student
    from ..run_folder.comparison import best_title

    accuracies, card = evaluation.run(), evaluation.teacher.card
    real = evaluation.real
    best = best_title(real.evaluated_on, evaluation.configs[0].reported)
    told: list[tuple[str, Literal["last", "best"]]] = [("last", "last")]
    if best is not None:
        told.append((best, "best"))
    columns = [f"{each.name} {title} %" for each in evaluation.sets for title, _ in told]
    regimes = ("regime",) if evaluation.request.regimes else ()
    rows = new_table("student", *regimes, "protocol", *columns)
    per_file = evaluation.set.storage.per_file
    settled_ones = [
        settle_student(config, len(evaluation.images), len(card.classes), per_file=per_file)
        for config in evaluation.configs
    ]
    for config, of_sets in zip(settled_ones, accuracies, strict=True):
        found = [of_sets[each.name][which] for each in evaluation.sets for _, which in told]
        regime = [regime_of(config)] if regimes else []
        rows.add_row(config.network, *regime, protocol_hash(config), *map(spread, found))
    reached = f" {100 * card.accuracy:.1f} % on the full real set" if card.accuracy is not None else ""
    say(
        f"\n{evaluation.set.path}: {counted(len(evaluation.images), 'image')}; teacher "
        f"{card.network}{reached}"
    )
    show_table(rows)
    for config in settled_ones[: max(1, len(evaluation.request.regimes))]:
        say(
            f"protocol {config.protocol}: {protocol_text(config)}; students a network: {config.seeds}; its "
            f"authors report the {config.reported}"
        )
    say(f"students are tested on the {len(real.evaluation_set):,} {real.evaluated_on} images")
    if evaluation.full_left_out is None:
        stored = any(config.labels == "stored" for config in settled_ones[1:])
        online = ", with online labels in place of stored ones" if stored else ""
        say(f"{FULL}: {evaluation.full.title}; a reference, no contender{online}")
    else:
        say(f"the whole training set is left out: {evaluation.full_left_out}")
    say(written_text(evaluation.request, evaluation.results.path))
    found_of = [of_set for of_sets in accuracies for of_set in of_sets.values()]
    refuse_diverged(
        [line for of_set in found_of for line in of_set["diverged"]], "lower lr=, or warm up for longer"
    )
