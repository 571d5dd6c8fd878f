"""A run, or its stages one by one: ``fastdd run|squeeze|bank|recover|label RECIPE``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..runtime.distributed import is_main
from .console import console, spread

if TYPE_CHECKING:
    from ..runs.pipeline import RunResult

STAGE_HELP = {
    "run": "distil, label, train students and report (continues an interrupted run)",
    "squeeze": "train or load the teacher, and stop",
    "bank": "stop after the statistics bank",
    "recover": "stop after the distilled images",
    "label": "stop after the soft labels",
}
PARTS = {"bank": "classes", "recover": "units"}


def add(commands: Any) -> None:
    for name, text in STAGE_HELP.items():
        stage = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        run_arguments(stage)
        if name in PARTS:
            stage.add_argument(
                f"--{PARTS[name]}",
                dest="part",
                metavar="FIRST:STOP",
                type=_range,
                help=f"only these {PARTS[name]}: one of many jobs on one run folder",
            )
        stage.set_defaults(run=run_stage)


def run_arguments(parser: argparse.ArgumentParser) -> None:
    recipe_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/RECIPE)")
    parser.add_argument("--fresh", action="store_true", help="delete an earlier run in that folder first")


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a built-in recipe (see `fastdd recipes`) or a .yaml file"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="override a value, for example method.steps=500"
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="NAME",
        help="add terms to every method that lacks them, for example dire",
    )


def _range(text: str) -> range:
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} must look like FIRST:STOP, for example 0:100")
    return range(int(first), int(stop))


def _print_result(result: RunResult) -> None:
    from rich.table import Table

    metrics, stages = result.metrics, result.manifest["stages"]
    rows = Table(
        "",
        "last %",
        "best %",
        f"coverage (k={metrics['k']})",
        "Vendi",
        "cosine",
        "recover s",
        "students s",
        box=None,
        header_style="bold",
    )
    for arm, values in metrics["arms"].items():
        seconds = (stages.get(f"{stage} {arm}", {}).get("seconds", 0.0) for stage in ("recover", "students"))
        rows.add_row(
            values["title"],
            spread(values["last"]),
            spread(values["best"]),
            f"{values['coverage']:.3f}",
            f"{values['vendi']:.2f}",
            f"{values['cosine']:.3f}",
            *(f"{s:.1f}" for s in seconds),
        )
    if full := metrics.get("full_set"):
        seconds = stages.get("students full", {}).get("seconds", 0.0)
        rows.add_row(full["title"], spread(full["last"]), spread(full["best"]), *("-" * 4), f"{seconds:.1f}")
    out = console()
    accuracy = metrics["teacher"]["accuracy"]
    out.print(
        f"\n{metrics['recipe']}: {metrics['ipc']} images a class; teacher {metrics['teacher']['network']}"
        + (f" {100 * accuracy:.1f} %" if accuracy is not None else "")
    )
    out.print(rows)
    out.print(
        f"protocol {metrics['protocol']['hash']}: {metrics['protocol']['text']}; {metrics['protocol']['seeds']} seeds"
    )
    counts = [(values["title"], values["stored"]) for values in metrics["arms"].values()]
    if unlike := [f"{title} {count}" for title, count in counts if count != metrics["ipc"]]:
        out.print(f"images a class that students see, where not {metrics['ipc']}: {', '.join(unlike)}")
    if reason := metrics.get("full_set_left_out"):
        out.print(f"the whole training set is left out: {reason}")
    others = {k: v["seconds"] for k, v in stages.items() if k in ("squeeze", "bank", "report")}
    out.print("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in others.items()))
    out.print(f"open {result.path / 'report.html'}")


def run_stage(arguments: argparse.Namespace) -> None:
    import fastdd

    until = "report" if arguments.command == "run" else arguments.command
    part = getattr(arguments, "part", None)
    result = fastdd.run(
        arguments.recipe,
        arguments.out,
        arguments.overrides,
        arguments.add,
        fresh=arguments.fresh,
        until=until,
        part=part,
    )
    if result.metrics:
        _print_result(result)
    elif is_main():
        print(f"{arguments.command} done: {result.path}" + (f" ({part.start}:{part.stop})" if part else ""))
