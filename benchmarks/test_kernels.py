"""Every public function of fastdd_kernels against what people use today.

    pytest benchmarks/test_kernels.py --benchmark-json=FILE        all of it; -k dire for one piece of work
    python benchmarks/table.py FILE                                the result as a markdown table

Each provider of a piece of work is first compared with the truth, and not timed if it is off by more than the
tolerance. The first call warms up, the second is measured for memory, then whole calls are timed: forward and
backward where there is a gradient, the release of what they allocate included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import pytest
import works_activations as activations
import works_features as features
import works_images as images
import works_pairs as pairs
import works_sets as sets
import works_trajectory as trajectory
from memory import peak_mb
from pytest_benchmark.fixture import BenchmarkFixture
from roofline import copy_rate, matmul_rate, synchronize
from torch import Tensor
from works import DEVICE, QUICK, Call, Work, error

MODULES = (features, activations, images, pairs, sets, trajectory)
WORKS = {work.name: work for module in MODULES for work in module.WORKS}
Result = TypeVar("Result")
CUDA = DEVICE.type == "cuda"
BUDGET = 0.5 if QUICK or CUDA else 5.0  # seconds of timing for each provider
ROUND = 5e-3 if CUDA else 0.0  # a round lasts at least so long: a single launch would time the gap after it


@lru_cache(maxsize=1)  # the providers of a piece of work come one after the other
def prepared(name: str) -> tuple[object, list[Tensor]]:
    """The inputs of a work, and their true results."""
    inputs = WORKS[name].inputs()
    return inputs, WORKS[name].truth(inputs)


copy_rate_of = lru_cache(copy_rate)
matmul_rate_of = lru_cache(matmul_rate)


def repeated(call: Call, calls: int) -> Callable[[], None]:
    """Some calls in a row, their results let go, and on a GPU all of their work done."""

    def run() -> None:
        for _ in range(calls):
            call()
        synchronize(DEVICE)

    return run


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """The result of a call, and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def plan(call: Call) -> tuple[int, int]:
    """Calls in a round, and rounds."""
    _, seconds = timed(repeated(call, 1))
    calls = max(1, math.ceil(ROUND / seconds))
    return calls, min(max(int(BUDGET / (seconds * calls)), 3), 100)


def goals(work: Work[object]) -> dict[str, object]:
    """What the work aims at; it is meant for the full shapes."""
    names = () if QUICK else ("target", "memory_share", "memory_mb")
    return {name: getattr(work, name) for name in names if getattr(work, name) is not None}


def rates(work: Work[object], seconds: float) -> dict[str, float]:
    """Attained bandwidth and arithmetic, and their share of what the device can do."""
    attained: dict[str, float] = {}
    if work.traffic:
        attained["gb_per_s"] = work.traffic / seconds / 1e9
        attained["share_of_copy"] = work.traffic / seconds / copy_rate_of(DEVICE)
    if work.flops:
        attained["gflop_per_s"] = work.flops / seconds / 1e9
        attained["share_of_matmul"] = work.flops / seconds / matmul_rate_of(DEVICE)
    return attained


@pytest.mark.parametrize(
    ("work", "provider"), [(work.name, name) for work in WORKS.values() for name in work.providers]
)
def test_kernel(work: str, provider: str, benchmark: BenchmarkFixture) -> None:
    task = WORKS[work]
    if missing := task.providers[provider].missing():
        pytest.skip(missing)
    inputs, truth = prepared(work)
    call = task.providers[provider].build(inputs)
    off = error(call(), truth)
    assert off <= task.tolerance, f"{provider} is off by {off:.1e}, more than {task.tolerance:.0e}: not timed"

    peak, seconds = timed(lambda: peak_mb(call, DEVICE))
    calls, rounds = plan(call) if seconds < 2 * BUDGET else (1, 1)
    benchmark.group = work
    benchmark.pedantic(repeated(call, calls), rounds=rounds)
    info = {"work": work, "provider": provider, "calls": calls, "peak_mb": peak, "error": off}
    benchmark.extra_info.update(info, tolerance=task.tolerance, **goals(task))
    if CUDA and benchmark.stats is not None:
        benchmark.extra_info.update(rates(task, benchmark.stats.stats.median / calls))
