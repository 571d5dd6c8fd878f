"""Providers of a work in turns: the processor time of each over ours, round by round.

    OMP_NUM_THREADS=1 python benchmarks/turns.py pairs_euclidean_mean moments_contiguous [--providers
    plain_compiled,torchmetrics] [--rounds 9] [--json FILE]

``test_kernels.py`` times one provider after the other, by the clock, which needs an idle machine. Here each
round runs every provider for some ``--seconds``, and a figure is the median over the rounds of the ratio of
two processor times of one round, with the smallest and the largest: on a shared machine both sides of a
ratio meet the same disturbance. A provider is timed only if its outputs and gradients agree with a float64
truth.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
import works_activations as activations
import works_features as features
import works_images as images
import works_pairs as pairs
import works_sets as sets
from conftest import package_version, processor_name
from works import Call, Work, error

WORKS = {work.name: work for module in (features, activations, images, pairs, sets) for work in module.WORKS}
PACKAGES = ("torch", "torchmetrics", "vendi-score", "prdc", "numpy")


def seconds_of(call: Call, calls: int) -> float:
    """Processor seconds of one call of several in a row, on all cores."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


def measure(work: Work[object], only: list[str], rounds: int, seconds: float) -> list[dict[str, object]]:
    """A row for each provider but ours."""
    inputs = work.inputs()
    truth = work.truth(inputs)
    names = ["ours", *(name for name in work.providers if name != "ours" and (name in only or not only))]
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    for name in names:
        if missing := work.providers[name].missing():
            print(f"{work.name} {name}: {missing}")
            continue
        call = work.providers[name].build(inputs)
        errors[name] = error(call(), truth)
        if errors[name] > work.tolerance:
            print(f"{work.name} {name}: off by {errors[name]:.1e}, more than {work.tolerance:.0e}: not timed")
            continue
        calls[name] = call
    repeats = {name: max(1, math.ceil(seconds / seconds_of(call, 2))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        # Every other round goes backwards, so that none always follows the same one.
        for name in list(calls)[:: -1 if number % 2 else 1]:
            times[name].append(seconds_of(calls[name], repeats[name]))
    rows: list[dict[str, object]] = []
    for name, own in times.items():
        ratios = [other / mine for other, mine in zip(own, times["ours"], strict=True)]
        if name != "ours":
            rows.append(
                {
                    "work": work.name,
                    "provider": name,
                    "over ours": round(statistics.median(ratios), 3),
                    "rounds": [round(ratio, 3) for ratio in sorted(ratios)],
                    "ours ms": round(1e3 * statistics.median(times["ours"]), 3),
                    "its ms": round(1e3 * statistics.median(own), 3),
                    "error ours": errors["ours"],
                    "error its": errors[name],
                }
            )
    return rows


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": {package: package_version(package) for package in PACKAGES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the providers of some works in turns.")
    parser.add_argument(
        "works", nargs="+", choices=sorted(WORKS), metavar="WORK", help=", ".join(sorted(WORKS))
    )
    parser.add_argument("--providers", default="", help="providers to time beside ours; all if not given")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--seconds", type=float, default=0.1, help="of a provider in a round, at least one call"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    only = options.providers.split(",") if options.providers else []
    rows: list[dict[str, object]] = []
    for name in options.works:
        rows.extend(found := measure(WORKS[name], only, options.rounds, options.seconds))
        for row in found:
            low, *_, high = row["rounds"]  # type: ignore[misc, attr-defined]
            print(
                f"{row['work']:<24} {row['provider']:<24} {row['over ours']:>6} ({low} to {high}),"
                f" ours {row['ours ms']} ms, its {row['its ms']} ms",
                flush=True,
            )
        if options.json:
            options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
