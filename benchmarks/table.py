"""The benchmark table: ``python benchmarks/table.py FILE.json ... [--least]`` prints markdown.

A FILE is what ``pytest benchmarks/test_kernels.py --benchmark-json=FILE`` wrote. A row for each provider that
ours is compared with: median times (or the least, which a busy machine disturbs less), their ratio, peak
memory over what was alive before the call, the largest error against float64 relative to the largest entry,
and what was aimed at. A provider that was off by more than the tolerance was not timed, and is not here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
"""an object of a file that pytest-benchmark wrote"""
HEAD = ("work", "ours, ms", "against", "its ms", "ratio", "peak MB, ours / its", "error, ours / its", "goal")


def milliseconds(row: Json, statistic: str) -> float:
    """Time of one call."""
    return float(row["stats"][statistic]) * 1e3 / row["extra_info"]["calls"]


def figures(value: float) -> str:
    """Three significant figures, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.4f}"


def megabytes(info: Json) -> str:
    """Peak memory in words."""
    return "not measured" if info["peak_mb"] is None else f"{info['peak_mb']:.1f}"


def verdict(text: str, met: bool) -> str:
    """A goal, and whether it was met."""
    return f"{text}: {'met' if met else '**missed**'}"


def goals(ours: Json, theirs: Json, ratio: float) -> Iterator[str]:
    """What was aimed at against this provider."""
    info, other = ours["extra_info"], theirs["extra_info"]
    provider, times = info.get("target", (None, 0))
    if provider != other["provider"]:
        return
    yield verdict(f"{times:g}x", ratio >= times)
    if "memory_share" in info and None not in (info["peak_mb"], other["peak_mb"]):
        share = info["peak_mb"] / other["peak_mb"]
        yield verdict(
            f"{info['memory_share']:.0%} of its memory, is {share:.1%}", share <= info["memory_share"]
        )


def roofline(info: Json) -> str:
    """Attained rates, where they were measured."""
    parts = []
    if "gb_per_s" in info:
        parts.append(f"{info['gb_per_s']:.0f} GB/s, {info['share_of_copy']:.0%} of a copy")
    if "gflop_per_s" in info:
        parts.append(f"{info['gflop_per_s']:.0f} GFLOP/s, {info['share_of_matmul']:.0%} of a product")
    return f" ({'; '.join(parts)})" if parts else ""


def alone(ours: Json, statistic: str) -> list[str]:
    """Cells of a work that no other provider does."""
    info = ours["extra_info"]
    limit = info.get("memory_mb")
    goal = (
        verdict(f"under {limit:g} MB", info["peak_mb"] < limit)
        if limit and info["peak_mb"] is not None
        else ""
    )
    return [figures(milliseconds(ours, statistic)), "", "", "", megabytes(info), f"{info['error']:.0e}", goal]


def against(ours: Json, theirs: Json, statistic: str) -> list[str]:
    """Cells of ours and one other provider."""
    info, other = ours["extra_info"], theirs["extra_info"]
    mine, its = milliseconds(ours, statistic), milliseconds(theirs, statistic)
    return [
        figures(mine) + roofline(info),
        other["provider"],
        figures(its) + roofline(other),
        f"{figures(its / mine)}x",
        f"{megabytes(info)} / {megabytes(other)}",
        f"{info['error']:.0e} / {other['error']:.0e}",
        "; ".join(goals(ours, theirs, its / mine)),
    ]


def rows(benchmarks: Iterable[Json], statistic: str) -> Iterator[list[str]]:
    """The cells of the table, work after work."""
    works: dict[str, dict[str, Json]] = {}
    for row in benchmarks:
        if "provider" in row["extra_info"]:
            works.setdefault(row["extra_info"]["work"], {})[row["extra_info"]["provider"]] = row
    for work, providers in works.items():
        ours = providers.pop("ours", None)
        if ours is None:
            continue
        compared = [against(ours, one, statistic) for one in providers.values()] or [alone(ours, statistic)]
        yield from ([work if i == 0 else "", *cells] for i, cells in enumerate(compared))


def machine(data: Json) -> str:
    """What the benchmarks were measured on."""
    info, commit = data["machine_info"]["fastdd"], data["commit_info"]
    packages = ", ".join(f"{name} {version or 'absent'}" for name, version in info["packages"].items())
    device = info["processor"] + " " + info["instructions"] if info["device"] == "cpu" else info["device"]
    state = " with uncommitted changes" if commit.get("dirty") else ""
    shapes = "small shapes; " if info["quick"] else ""
    return (
        f"{device}, {info['threads']} threads, allocator {info['allocator']}; {shapes}"
        f"commit {str(commit.get('id'))[:10]}{state}; {packages}"
    )


def table(data: Json, statistic: str = "median") -> str:
    """The machine, and the table in markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows(data["benchmarks"], statistic)]
    return "\n".join([machine(data), "", *("| " + " | ".join(line) + " |" for line in lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of kernel benchmarks.")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE.json", help="results of pytest-benchmark"
    )
    parser.add_argument("--least", action="store_true", help="the least times, not the medians")
    options = parser.parse_args()
    runs = [json.loads(file.read_text()) for file in options.files]
    # Several files are runs on one machine, such as one for each work; the first says which.
    together = {**runs[0], "benchmarks": [row for run in runs for row in run["benchmarks"]]}
    print(table(together, "min" if options.least else "median"))


if __name__ == "__main__":
    main()
