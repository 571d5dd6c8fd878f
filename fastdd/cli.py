"""The ``fastdd`` command. Modules that import torch are imported only when a stage runs."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import __version__
from .distributed import is_main
from .errors import InputError

if TYPE_CHECKING:
    from .pipeline import RunResult

STAGE_HELP = {
    "run": "distil, label, train students and report (continues an interrupted run)",
    "squeeze": "train or load the teacher, and stop",
    "bank": "stop after the statistics bank",
    "recover": "stop after the distilled images",
    "label": "stop after the soft labels",
    "evaluate": "stop after students and metrics",
}
PARTS = {"bank": "classes", "recover": "units"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastdd", description="Fast large-scale dataset distillation.")
    parser.add_argument("--version", action="version", version=f"fastdd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in STAGE_HELP.items():
        stage = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        _recipe_arguments(stage)
        stage.add_argument("--out", metavar="DIR", help="run folder (default: runs/RECIPE)")
        stage.add_argument("--fresh", action="store_true", help="delete an earlier run in that folder first")
        if name in PARTS:
            stage.add_argument(
                f"--{PARTS[name]}", dest="part", metavar="FIRST:STOP", type=_range,
                help=f"only these {PARTS[name]}: one of many jobs on one run folder",
            )  # fmt: skip
    _recipe_arguments(commands.add_parser("show", help="print a recipe with every value and where it comes from"))
    commands.add_parser("recipes", help="list the built-in recipes")
    data = commands.add_parser("data", help="work on data sets").add_subparsers(dest="data_command", required=True)
    check = data.add_parser("check", help="list every problem of a data set")
    check.add_argument("root", metavar="ROOT")
    check.add_argument("--quick", action="store_true", help="look at both ends of each file instead of decoding it")
    index = data.add_parser("show", help="print the index of a data set: classes, counts, fingerprint")
    index.add_argument("root", metavar="ROOT")
    index.add_argument(
        "--contents", action="store_true", help="fingerprint of the contents of the files, not the names"
    )
    commands.add_parser("status", help="say what of a run is done").add_argument("folder", metavar="DIR")
    merge = commands.add_parser("merge", help="merge banks that were built apart, of other classes or other images")
    merge.add_argument("banks", nargs="+", metavar="BANK", help="the folder bank/ of a run, whole or in part")
    merge.add_argument("--out", metavar="DIR", required=True, help="a new folder")
    report = commands.add_parser("report", help="write report.html of a finished run again")
    report.add_argument("folder", metavar="DIR")
    return parser


def _range(text: str) -> range:
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} must look like FIRST:STOP, for example 0:100")
    return range(int(first), int(stop))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments; overrides may also stand after options, where argparse alone would not take them."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (any(text.startswith("-") or "=" not in text for text in rest) or "overrides" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a built-in recipe (see `fastdd recipes`) or a .yaml file")
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


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def _show(arguments: argparse.Namespace) -> None:
    from rich.table import Table

    from .resolution import resolve, table

    rows = Table("key", "value", "set by", "source", title=None, box=None, header_style="bold")
    for path, value, origin, source in table(resolve(arguments.recipe, arguments.overrides, arguments.add)):
        rows.add_row(path, "null" if value is None else str(value), origin, source)
    _console().print(rows)


def _recipes() -> None:
    from rich.table import Table

    from .resolution import recipe_names, resolve

    rows = Table("recipe", "what it does", box=None, header_style="bold")
    for name in recipe_names():
        rows.add_row(name, resolve(name).recipe.description)
    _console().print(rows)


def _data_show(root: str, contents: bool) -> None:
    from rich.table import Table

    from .data import open_dataset, summary

    rows = Table("", "train", "test", box=None, header_style="bold")
    train, test = (
        summary(open_dataset(root, split, "contents" if contents else "names")) for split in ("train", "test")
    )
    for name in train:
        if name not in ("split", "counts", "classes"):
            rows.add_row(name.replace("_", " "), str(train[name]), str(test[name]))
    rows.add_row("classes", *(str(len(split["classes"])) for split in (train, test)))
    rows.add_row("images a class", *(f"{min(split['counts'])} to {max(split['counts'])}" for split in (train, test)))
    _console().print(rows)


def _data_check(root: str, quick: bool) -> int:
    from .data import check

    problems = check(root, quick)
    for problem in problems:
        print(problem)
    print(f"{root}: {len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else f"{root}: no problems")
    return 1 if problems else 0


def _spread(values: Sequence[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def _print_result(result: RunResult) -> None:
    from rich.table import Table

    metrics, stages = result.metrics, result.manifest["stages"]
    rows = Table(
        "", "last %", "best %", f"coverage (k={metrics['k']})", "Vendi", "cosine", "recover s", "students s", box=None,
        header_style="bold",
    )  # fmt: skip
    for arm, values in metrics["arms"].items():
        seconds = (stages.get(f"{stage} {arm}", {}).get("seconds", 0.0) for stage in ("recover", "students"))
        rows.add_row(
            values["title"], _spread(values["last"]), _spread(values["best"]), f"{values['coverage']:.3f}",
            f"{values['vendi']:.2f}", f"{values['cosine']:.3f}", *(f"{s:.1f}" for s in seconds),
        )  # fmt: skip
    console = _console()
    accuracy = metrics["teacher"]["accuracy"]
    console.print(
        f"\n{metrics['recipe']}: {metrics['ipc']} images a class; teacher {metrics['teacher']['network']}"
        + (f" {100 * accuracy:.1f} %" if accuracy is not None else "")
    )
    console.print(rows)
    console.print(
        f"protocol {metrics['protocol']['hash']}: {metrics['protocol']['text']}; {metrics['protocol']['seeds']} seeds"
    )
    others = {k: v["seconds"] for k, v in stages.items() if k in ("squeeze", "bank", "report")}
    console.print("seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in others.items()))
    console.print(f"open {result.path / 'report.html'}")


def _stage(arguments: argparse.Namespace) -> None:
    import fastdd

    until = "report" if arguments.command == "run" else arguments.command
    part = getattr(arguments, "part", None)
    result = fastdd.run(
        arguments.recipe, arguments.out, arguments.overrides, arguments.add, fresh=arguments.fresh, until=until,
        part=part,
    )  # fmt: skip
    if result.metrics:
        _print_result(result)
    elif is_main():
        print(f"{arguments.command} done: {result.path}" + (f" ({part.start}:{part.stop})" if part else ""))


def _merge(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from .bank import merge

    whole = merge([Path(bank) for bank in arguments.banks], Path(arguments.out))
    print(f"{arguments.out}: " + ("a whole bank" if whole else "some classes are still lacking; merge again with them"))


def _command(arguments: argparse.Namespace) -> int:
    if arguments.command == "show":
        _show(arguments)
    elif arguments.command == "recipes":
        _recipes()
    elif arguments.command == "data":
        if arguments.data_command == "check":
            return _data_check(arguments.root, arguments.quick)
        _data_show(arguments.root, arguments.contents)
    elif arguments.command == "status":
        from pathlib import Path

        from .status import status

        print("\n".join(map(str, status(Path(arguments.folder)))))
    elif arguments.command == "merge":
        _merge(arguments)
    elif arguments.command == "report":
        from pathlib import Path

        from .report import report

        print(report(Path(arguments.folder)))
    else:
        _stage(arguments)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 problems found, 2 bad input, 130 interrupted."""
    arguments = _parse(argv)
    try:
        return _command(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
