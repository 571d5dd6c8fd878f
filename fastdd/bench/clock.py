"""How works are timed, and their memory measured: all sides in turns, by the processor's clock or the wall's.

On a CPU with one thread the figure is processor time, which other programs on the machine change little. With
several threads, and on a GPU, it is time by the wall, which needs an idle machine. Every result says which.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from .results import Clock


def clock_for(device: torch.device, threads: int) -> Clock:
    """The clock that says most on this device with so many threads."""
    return "processor" if device.type == "cpu" and threads == 1 else "wall"


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def processor_seconds() -> float:
    """Processor time of this process and of the worker processes that it started, ended ones included."""
    times = os.times()
    total = time.process_time() + times.children_user + times.children_system
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def seconds_of(call: Callable[[], object], calls: int, clock: Clock, device: torch.device) -> float:
    """Seconds of one call of several in a row, so that a GPU is never idle between them."""
    read = processor_seconds if clock == "processor" else time.perf_counter
    synchronize(device)
    start = read()
    for _ in range(calls):
        call()
    synchronize(device)
    multiprocessing.active_children()  # reaps workers that ended, whose time is counted then
    return (read() - start) / calls


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    once: Mapping[str, float],
    *,
    rounds: int,
    seconds: float,
    clock: Clock,
    device: torch.device,
) -> dict[str, list[float]]:
    """Seconds of a call of each side, round by round; in each round every side runs, so that what disturbs
    the machine meets all of them.

    Args:
        calls: the sides, which have run before.
        once: about how many seconds a call of each takes.
        rounds: number of rounds; every other one goes backwards, so that none always follows the same one.
        seconds: how long a side runs in a round, at least one call.
    """
    repeats = {name: max(1, math.ceil(seconds / max(once[name], 1e-6))) for name in calls}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            times[name].append(seconds_of(calls[name], repeats[name], clock, device))
    return times


_PROCESS = Path("/proc/self")


def _status(field: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no {field} in {_PROCESS / 'status'}")


def _cuda_peak(call: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def peak_mb(call: Callable[[], object], device: torch.device) -> float | None:
    """Peak memory of one call, its results included, over what was alive before it, in MB.

    On a GPU: PyTorch's allocator, to the byte. On Linux: the resident set, whose high-water mark is reset
    through ``/proc/self/clear_refs``. That is good to about 1 MB, and shows pages, not requests: what is
    allocated and never touched does not count, and what a library keeps for later (thread pools, packing
    buffers) counts the first time only. So measure a second call, never the first. Elsewhere there is no such
    mark to reset, and nothing is measured: None.
    """
    gc.collect()
    if device.type == "cuda":
        return _cuda_peak(call, device)
    # Freed memory that the allocator still holds would hide as much of the call's own.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
        result = call()
        peak = _status("VmHWM") - before
    except OSError:
        return None
    del result
    return max(peak, 0.0)
