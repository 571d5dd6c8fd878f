"""Writes benchmarks/README.md from the results beside it.

    python benchmarks/page.py             # after results or README.md.j2 changed
    python benchmarks/page.py --check     # ends with 1 where the page is not what the results give

The template is README.md.j2, which holds the text; every table comes from results/. What was asked for, and
why a figure is missed, stands in results/asked.yaml.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from fastdd.bench.growth import growth_figure
from fastdd.bench.results import OURS, Curve, Row, SideResult, read_results, seconds_text

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE, TEMPLATE, ASKED, FIGURE = (
    HERE / "README.md",
    HERE / "README.md.j2",
    RESULTS / "asked.yaml",
    "growth.svg",
)
GROWTH = ("epyc_avx512_1_thread.json", "epyc_avx512_1_thread_quick.json")
"""the results whose curves are drawn; a curve of the first is taken before one of the second"""
HEAD = (
    "work",
    "ours",
    "against",
    "its",
    "its over ours",
    "peak MB, ours / its",
    "error, ours / its",
    "floor",
)


class Asked(BaseModel):
    """A figure that was asked for.

    Attributes:
        figure: what was asked for, in words.
        at_least, at_most: the bound; one of them.
        file, row: the results, and ``SUBJECT WORK`` in them, that answer; without them the figure is
            ``stated`` or was not measured.
        value: ``SIDE ratio`` (its time over ours), ``SIDE inverse``, ``SIDE share`` (our memory over its),
            ``memory`` (MB of ours), ``seconds`` (of one unit of ours) or ``exponent`` of the curve ``row``.
        over: the side that is ours here.
        stated: the value, where it comes from a command that writes no results of the suite.
        unit: what stands behind the value.
        how: the command, or what was measured on.
        reason: why it is missed, or was not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    file: str | None = None
    row: str | None = None
    value: str = ""
    over: str = OURS
    stated: float | None = None
    unit: str = ""
    how: str = ""
    reason: str = ""

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{self.unit}"
        return f"at most {self.at_most:g}{self.unit}"

    def met(self, found: float) -> bool:
        """Whether a value is within the bound."""
        if self.at_least is not None:
            return found >= self.at_least
        assert self.at_most is not None
        return found <= self.at_most


def asked_figures() -> list[Asked]:
    """All figures, in the order of the page."""
    return TypeAdapter(list[Asked]).validate_python(yaml.safe_load(ASKED.read_text(encoding="utf-8")))


def value_of(asked: Asked) -> float | None:
    """What was measured of a figure; None: nothing."""
    if asked.file is None:
        return asked.stated
    results = read_results(RESULTS / asked.file)
    if asked.value == "exponent":
        return next(each for each in results.curves if each.name == asked.row).time_exponent
    row = next(each for each in results.rows if f"{each.subject} {each.work}" == asked.row)
    ours = row.sides[asked.over]
    if asked.value == "seconds":
        assert ours.time is not None
        return ours.time.median
    if asked.value == "memory":
        assert ours.peak_mb is not None
        return ours.peak_mb
    side, _, what = asked.value.partition(" ")
    other = row.sides[side]
    if what == "share":
        assert ours.peak_mb is not None
        assert other.peak_mb is not None
        return ours.peak_mb / other.peak_mb
    assert other.ratio is not None
    ratio = other.ratio.median / (1.0 if ours.ratio is None else ours.ratio.median)
    return ratio if what == "ratio" else 1 / ratio


def asked_table() -> str:
    """Every figure that was asked for, what was measured, and why some are missed."""
    lines = []
    for asked in asked_figures():
        found = value_of(asked)
        if found is None:
            verdict = f"**not measured**: {asked.reason}"
        else:
            verdict = "met" if asked.met(found) else f"**missed**: {asked.reason}"
        measured = "" if found is None else f"{figures(found)}{asked.unit}"
        where = f"[{asked.row}](results/{asked.file})" if asked.file else asked.how
        lines.append([asked.figure, asked.bound, measured, verdict, where])
    return table(("figure", "asked for", "measured", "", "where"), lines)


# -- tables of the suite ---------------------------------------------------------------------------


def machine(file: str) -> str:
    """What a file was measured on."""
    results = read_results(RESULTS / file)
    clocks = {row.clock for row in results.rows}
    kind = "processor time" if clocks == {"processor"} else "time by the wall"
    found = f"{results.machine.text}; {kind}."
    if results.ceilings is not None:
        best = results.ceilings
        products = (
            f"{best.fp32_operations / 1e9:.0f} GFLOP/s in fp32 and {best.bf16_operations / 1e9:.0f} in bf16"
        )
        found += f" At best: a copy {best.copy_bytes / 1e9:.1f} GB/s, products {products}."
    return found


def rows(file: str, subject: str = "") -> str:
    """The works of a file, of one subject or all, a line for each side beside ours."""
    found = [row for row in read_results(RESULTS / file).rows if not subject or row.subject == subject]
    lines = [line for row in found for line in _lines(row)]
    works = "\n".join(f"- `{row.work}`: {row.text}" for row in found)
    return f"{table(HEAD, lines)}\n\n<details><summary>What the works are</summary>\n\n{works}\n\n</details>"


def _lines(row: Row) -> Iterator[list[str]]:
    ours = row.sides[OURS]
    per = "" if row.unit == "call" else f" / {row.unit}"
    mine = ours.untimed if ours.time is None else f"{seconds_text(ours.time.median)}{per}"
    floor = "" if row.floor is None or ours.time is None else f"{ours.time.median / row.floor:.2g}x"
    others = {name: side for name, side in row.sides.items() if name != OURS}
    if not others:
        yield [row.work, mine, "", "", "", megabytes(ours), error(ours), floor]
    for number, (name, side) in enumerate(others.items()):
        first = [row.work, mine] if number == 0 else ["", ""]
        its = side.untimed if side.time is None else seconds_text(side.time.median)
        yield [
            *first,
            name,
            its,
            _ratio(side),
            f"{megabytes(ours)} / {megabytes(side)}",
            f"{error(ours)} / {error(side)}",
            floor if number == 0 else "",
        ]


def _ratio(side: SideResult) -> str:
    if side.ratio is None:
        return ""
    ratio = side.ratio
    within = "" if ratio.rounds == 1 else f" ({figures(ratio.low)} to {figures(ratio.high)})"
    return f"{figures(ratio.median)}{within}"


def all_curves() -> list[Curve]:
    """The curves of the page."""
    found: dict[str, Curve] = {}
    for file in GROWTH:
        for curve in read_results(RESULTS / file).curves:
            found.setdefault(curve.name, curve)
    return list(found.values())


def curves() -> str:
    """How time and memory grow, and the figure of it, which is written beside the page."""
    found = all_curves()
    lines = [
        [
            f"`{curve.name}`",
            curve.text,
            f"{curve.along}, {curve.points[0].size:g} to {curve.points[-1].size:g}",
            f"{seconds_text(curve.points[0].seconds)} to {seconds_text(curve.points[-1].seconds)}",
            f"{curve.time_exponent:.2f}",
            f"{curve.expected:g}",
            "" if curve.memory_exponent is None else f"{curve.memory_exponent:.2f}",
        ]
        for curve in found
    ]
    head = ("curve", "work", "size", "time", "exponent of time", "of operations", "exponent of memory")
    return f"{table(head, lines)}\n\n![Growth on logarithmic axes](results/{FIGURE})"


# -- tables of other results -----------------------------------------------------------------------


def faults(*files: str) -> str:
    """How many faults were tried, by kind."""
    sums: dict[str, list[int]] = {}
    keys = ("tried", "told", "same", "lost", "tracebacks")
    for file in files:
        for count in json.loads((RESULTS / file).read_text())["counts"]:
            earlier = sums.setdefault(count["fault"], [0] * len(keys))
            sums[count["fault"]] = [a + count[key] for a, key in zip(earlier, keys, strict=True)]
    return table(("fault", *keys), [[fault, *map(str, numbers)] for fault, numbers in sums.items()])


def accuracies(file: str) -> str:
    """The arms of a run's metrics.json: accuracy, coverage, Vendi score and cosine."""
    found = json.loads((RESULTS / file).read_text())
    lines = []
    for key, arm in found["arms"].items():
        last = [100 * value for value in arm["last"]]
        spread = f" ± {statistics.stdev(last):.1f}" if len(last) > 1 else ""
        diversity = [arm.get(name) for name in ("coverage", "vendi", "cosine")]
        cells = ["" if value is None else f"{value:.3g}" for value in diversity]
        lines.append([arm.get("title") or key, f"{statistics.mean(last):.1f}{spread}", *cells])
    return table(("arm", "accuracy, last %", "coverage", "Vendi", "cosine"), lines)


def million(file: str) -> str:
    """The works of benchmarks/million.py: the part that was done, processor time and largest resident set."""
    found = json.loads((RESULTS / file).read_text())
    lines = []
    for name, work in found.items():
        if isinstance(work, dict):
            part = "whole" if "share" not in work else f"{100 * work['share']:.3g} %"
            seconds = work["processor seconds"]
            lines.append([name, part, figures(seconds), figures(work["largest resident MB"])])
    return table(("work", "part that was done", "seconds of processor", "largest resident MB"), lines)


# -- text ------------------------------------------------------------------------------------------


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def figures(value: float) -> str:
    """Three significant figures, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def megabytes(side: SideResult) -> str:
    """Peak memory in words."""
    return "–" if side.peak_mb is None else f"{side.peak_mb:.1f}"


def error(side: SideResult) -> str:
    """The error in words."""
    return "–" if side.error is None else f"{side.error:.0e}"


def gaps() -> str:
    """The table of gaps to the floor: what was slow, what was expected of a mend, and what came of it."""
    found = json.loads((RESULTS / "gaps.json").read_text(encoding="utf-8"))
    keys = ("stage", "gap", "before", "prediction", "after", "how")
    return table(keys, [[row[key] for key in keys] for row in found["rows"]])


def page() -> str:
    """The whole page."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    functions = (asked_table, machine, rows, curves, gaps, faults, accuracies, million)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render({function.__name__: function for function in functions})


def figure() -> str:
    """The figure of growth."""
    return growth_figure(all_curves())


def main() -> int:
    parser = argparse.ArgumentParser(description="Write benchmarks/README.md from the results beside it.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    wanted = {PAGE: page(), RESULTS / FIGURE: figure()}
    if options.check:
        stale = [str(path) for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path} is not what the results give; run python benchmarks/page.py", file=sys.stderr)
        return bool(stale)
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
