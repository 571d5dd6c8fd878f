"""``fastdd bench``: what fastdd costs on this machine, beside what people use today."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .console import new_table, say, show_table
from .options import Commands, device_argument

if TYPE_CHECKING:
    from ..bench.results import Curve, Row, SideResult

COMPARE = "compare"
ALL = "all"
SUBJECTS = ("kernels", "bank", "loader", "recover", "students", "metrics", "end-to-end", "growth")
TEXT = (
    "Measure ours and its peers in turns, each after its result was compared with float64: time, peak "
    "memory, error, and the floor from the bytes and operations of the work over what this machine can do. "
    "Times are processor time with one thread on a CPU, else time by the wall, which needs an idle machine. "
    "`fastdd bench compare A B` tells what changed from one file of --json to another by more than the "
    "noise, and ends with 1 where ours became slower or wrong."
)


def add(commands: Commands) -> None:
    bench = commands.add_parser("bench", help="measure speed and memory beside their peers", description=TEXT)
    bench.add_argument(
        "subject",
        nargs="?",
        default=ALL,
        choices=(ALL, *SUBJECTS, COMPARE),
        metavar="SUBJECT",
        help=f"{', '.join(SUBJECTS)} (default: all), or compare",
    )
    bench.add_argument("files", nargs="*", metavar="FILE", help="of compare: the results before and after")
    bench.add_argument("--quick", action="store_true", help="small sizes, all subjects in under 3 minutes")
    bench.add_argument("--works", metavar="NAMES", help="only works with such names, as moments_*,dire")
    bench.add_argument("--sides", metavar="NAMES", help="only these sides beside ours, as torchmetrics")
    bench.add_argument(
        "--no-compiled", action="store_true", help="leave out torch.compile, which takes a minute for a side"
    )
    bench.add_argument("--list", action="store_true", help="only say which works there are")
    bench.add_argument("--rounds", type=int, metavar="N", help="rounds of a work (default: 7; quick: 3)")
    device_argument(bench)
    bench.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of our networks (default: auto, bf16 where it is fast)",
    )
    bench.add_argument(
        "--clock",
        choices=("auto", "processor", "wall"),
        default="auto",
        help="the clock (default: auto, processor with one thread on a CPU, else wall)",
    )
    bench.add_argument("--note", default="", metavar="TEXT", help="what is to be said of the circumstances")
    bench.add_argument("--json", metavar="FILE", help="add the results to this file after each work")
    bench.add_argument("--figure", metavar="FILE.svg", help="draw the curves of growth on logarithmic axes")
    bench.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    from ..errors import InputError

    if arguments.subject == COMPARE:
        if len(arguments.files) != 2:
            raise InputError(f"compare takes two files of results, got {len(arguments.files)}")
        return _compare(*map(Path, arguments.files))
    if arguments.files:
        raise InputError(f"{arguments.files[0]}: only compare takes files; name one subject, or none for all")
    if arguments.rounds is not None and arguments.rounds < 1:
        raise InputError(f"--rounds is {arguments.rounds}, expected at least 1")
    return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    import torch

    from ..bench.clock import clock_for
    from ..bench.growth import growth_figure
    from ..bench.machine import this_machine
    from ..bench.measure import Plan, names, run
    from ..bench.results import Row, earlier_results, with_results, write_results
    from ..bench.work import Scale
    from ..runtime.devices import device_of
    from ..runtime.files import require_writable, write_bytes
    from ..runtime.precision import on_device

    device = device_of(arguments.device)
    precision = on_device("--precision", arguments.precision, device)
    scale = Scale(device, arguments.quick, precision)
    subjects = SUBJECTS if arguments.subject == ALL else (arguments.subject,)
    if arguments.list:
        for subject, name, text in names(scale, subjects):
            say(f"{subject} {name}: {text}")
        return 0
    machine = this_machine(scale, arguments.note)
    file = None if arguments.json is None else Path(arguments.json)
    if file is not None:
        require_writable(file, "name another file with --json")
    results = earlier_results(file, machine) if file is not None else None
    plan = Plan(
        subjects,
        works=_split(arguments.works),
        sides=_split(arguments.sides),
        # The compiler takes longer than all small sizes together.
        compiled=not arguments.no_compiled and not arguments.quick,
        clock=clock_for(device, torch.get_num_threads()) if arguments.clock == "auto" else arguments.clock,
        rounds=arguments.rounds or (3 if arguments.quick else 7),
        seconds=0.02 if arguments.quick else 0.1,
    )
    ceilings, found = run(plan, scale)
    kind = "processor time" if plan.clock == "processor" else "time by the wall"
    say(f"{machine.text}; {kind}{'; small sizes, whose speeds say little' if scale.quick else ''}")
    say(
        f"at best: a copy {ceilings.copy_bytes / 1e9:.1f} GB/s, products "
        f"{ceilings.fp32_operations / 1e9:.0f} GFLOP/s in fp32, {ceilings.bf16_operations / 1e9:.0f} in bf16"
    )
    wrong, all_curves = 0, []
    for each in found:
        if results is not None and file is not None:
            rows, curves = ((each,), ()) if isinstance(each, Row) else ((), (each,))
            results = with_results(results, ceilings, rows, curves)
            write_results(file, results)
        if isinstance(each, Row):
            wrong += each.sides["ours"].untimed.startswith("off by")
            _show_row(each)
        else:
            all_curves.append(each)
            _show_curve(each)
    if arguments.figure is not None and all_curves:
        write_bytes(Path(arguments.figure), growth_figure(all_curves).encode())
    return int(wrong > 0)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)


def _compare(before: Path, after: Path) -> int:
    from ..bench.results import changes, read_results
    from ..errors import InputError

    found = list(changes(read_results(before), read_results(after)))
    if not found:
        raise InputError(
            f"{before} and {after} have no figure in common; compare files of the same "
            "subjects, works and sides"
        )
    rows = new_table("", "", "before", "after", "noise", "")
    for change in found:
        noise = f"{100 * change.noise:.0f} %"
        mark = "" if change.verdict == "same" else change.verdict
        rows.add_row(change.row, change.figure, f"{change.before:.3g}", f"{change.after:.3g}", noise, mark)
    show_table(rows)
    worse = sum(change.verdict in ("slower", "wrong") for change in found)
    better = sum(change.verdict in ("faster", "right") for change in found)
    say(f"{len(found)} figures in both: {worse} worse, {better} better by more than the noise")
    return int(worse > 0)


# -- how results are printed -----------------------------------------------------------------------


def _show_row(row: Row) -> None:
    """A work: a line for each side."""
    from ..bench.results import floor_text, seconds_text

    say(f"\n{row.subject} {row.work}: {row.text}")
    rows = new_table("side", f"one {row.unit}", "rounds", "over ours", "peak MB", "error")
    for name, side in row.sides.items():
        rows.add_row(name, *_cells(side))
    show_table(rows)
    ours = row.sides["ours"].time
    if row.floor is not None and ours is not None:
        say(f"floor {seconds_text(row.floor)}: {floor_text(row.floor, ours.median)}")
    for goal in row.goals:
        verdict = "not measured" if goal.met is None else "met" if goal.met else "missed"
        value = "" if goal.value is None else f", is {goal.value:.3g}"
        say(f"goal: {goal.text}{value}: {verdict}")


def _cells(side: SideResult) -> list[str]:
    from ..bench.results import seconds_text

    error = "-" if side.error is None else f"{side.error:.0e}"
    if side.time is None:
        return [side.untimed, "", "", "", error]
    time, ratio = side.time, side.ratio
    return [
        seconds_text(time.median),
        f"{seconds_text(time.low)} to {seconds_text(time.high)}",
        "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        "-" if side.peak_mb is None else f"{side.peak_mb:.1f}",
        error,
    ]


def _show_curve(curve: Curve) -> None:
    from ..bench.results import curve_text, seconds_text

    say(f"\ngrowth {curve.name}: {curve.text}")
    for point in curve.points:
        memory = "" if point.peak_mb is None else f", {point.peak_mb:.1f} MB"
        say(f"  {point.size:g} {curve.along}: {seconds_text(point.seconds)}{memory}")
    say(curve_text(curve))
