"""Speed of a recover step against the released loops, and what statistics and grouping do to it.

    python benchmarks/steps.py [--rows statistics,sre2l,dire,deda] [--forms eager,compiled] [--rounds 5]
    [--steps 2]

| row | timed | over | goal |
|---|---|---|---|
| statistics | BatchNorm, Gaussian alignment and DiRe | the step with cross-entropy alone | at most 1.15 |
| sre2l | the released loop (released.py), batch 100 | ours | at least 3 |
| dire | the released loop, 50 classes x 10 images | ours | at least 4 |
| deda | 10 classes x 10 images, one class after the other | together in a unit | at least 1.5 |

Both sides of a row run in turns, some steps of the whole loop each, after a round that is not timed; the
figure is the ratio of the medians. A row is timed only if both sides give the same gradient for the same
images and the same roll. Images are noise, the teacher is a random ResNet-18 for small images with the
running statistics of that noise, and the real statistics are random: the arithmetic is the same. The targets
of a unit are read before, as a unit's thousand steps share them, and compiling is not timed: ``setup`` says
how long the first call took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conftest import package_version, processor_name
from settings import FULL, QUICK, Setting
from sides import BUDGET, ROWS, Bench, Row

PACKAGES = ("torch", "torchvision", "torchmetrics", "numpy")


Figures = dict[str, Any]
"""a JSON object of the result file"""


class Times(NamedTuple):
    """Seconds of a step, round by round."""

    wall: list[float]
    processor: list[float]


def timed(run: Callable[[], object], steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds a step, of the clock and of this process on all cores."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def measure(row: Row, rounds: int, steps: int, device: torch.device) -> Figures:
    """The figures of a row; without a ratio where the gradients differ."""
    error = row.error()
    figures: Figures = {"goal": row.goal, "gradient error": error}
    if not error <= row.budget:
        return {
            **figures,
            "refused": f"gradients differ by {error:.1e}, at most {row.budget:.0e} is rounding",
        }
    sides = {row.over: row.timed_over, row.under: row.timed_under}
    setup = {name: timed(side, 1, device)[0] for name, side in sides.items()}
    times = {name: Times([], []) for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            wall, processor = timed(side, steps, device)
            times[name].wall.append(wall)
            times[name].processor.append(processor)
    over, under = times.values()
    ratio = statistics.median(over.wall) / statistics.median(under.wall)
    return {
        **figures,
        "ratio": ratio,
        "met": row.met(ratio),
        "ratio of processor time": statistics.median(over.processor) / statistics.median(under.processor),
        "seconds a step": {name: {"wall": t.wall, "processor": t.processor} for name, t in times.items()},
        "setup": setup,
    }


def machine(device: torch.device, setting: Setting, precision: str) -> Figures:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "network": setting.network,
        "precision": precision,
        **{package: package_version(package) for package in PACKAGES},
    }


def line(name: str, form: str, figures: Figures) -> str:
    if "refused" in figures:
        return f"{name:<11} {form:<9} not timed: {figures['refused']}"
    medians = (
        f"{side} {statistics.median(t['wall']):.3f} s" for side, t in figures["seconds a step"].items()
    )
    verdict = "met" if figures["met"] else "missed"
    ratio = f"{figures['ratio']:.2f} (goal {figures['goal']}: {verdict})"
    return f"{name:<11} {form:<9} {ratio}, a step: {', '.join(medians)}"


def main(arguments: list[str] | None = None) -> list[Figures]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument(
        "--forms", default="eager,compiled", help="forms of our steps; the released ones are eager"
    )
    parser.add_argument("--precision", default="fp32", choices=sorted(BUDGET), help="precision of our steps")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps of a side in a round")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, whose figures say nothing")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    device, setting = torch.device(options.device), QUICK if options.quick else FULL
    print(machine(device, setting, options.precision), flush=True)
    found = []
    for name in options.rows.split(","):
        for form in options.forms.split(","):
            row = ROWS[name](
                Bench(
                    setting,
                    device,
                    compiled=form == "compiled",
                    precision=options.precision,
                    steps=options.steps,
                )
            )
            found.append({"row": name, "form": form, **measure(row, options.rounds, options.steps, device)})
            print(line(name, form, found[-1]), flush=True)
            if options.json:
                result = {"facts": machine(device, setting, options.precision), "rows": found}
                options.json.write_text(json.dumps(result, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
