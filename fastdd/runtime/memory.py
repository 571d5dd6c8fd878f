"""How much memory may still be used, so that a too large data set is refused instead of killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ..errors import InputError

BUDGET = 0.6  # of the available memory: the teacher, the activations and the other split need the rest


def available_memory() -> int | None:
    """Bytes this process may still take without swapping, or None where the system does not say.

    The smaller of what the machine has left and what each memory limit above the process (cgroup v2:
    containers, Slurm jobs) leaves; the page cache counts as free because the kernel gives it back.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)}
    left = [int(kilobytes["MemAvailable"]) * 1024] if "MemAvailable" in kilobytes else []
    return min(left + _left_by_limits(), default=None)


def _left_by_limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return []
    left = []
    for group in (root / own, *(root / own).parents):
        try:
            limit = (group / "memory.max").read_text().strip()
            used = int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            cache = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
            left.append(max(0, int(limit) - used + cache))
    return left


def memory_budget() -> int:
    """Bytes that data may take now: BUDGET of the available memory, or no limit where it is unknown."""
    available = available_memory()
    return sys.maxsize if available is None else int(BUDGET * available)


def free_device_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process may still allocate: what is free, and what torch keeps for reuse."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def device_budget(device: torch.device) -> int:
    """Bytes that images may take now on a device: BUDGET of what is free there."""
    return int(BUDGET * free_device_memory(device)) if device.type == "cuda" else memory_budget()


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse before allocating.

    Args:
        needed: bytes to be allocated. what: "to hold ..." for the message. remedy: what to do instead.

    Raises:
        InputError: needed is more than the memory budget.
    """
    budget = memory_budget()
    if needed > budget:
        raise InputError(
            f"{needed:,} bytes are needed {what}, but only {budget:,} may be used "
            f"({BUDGET:.0%} of the memory available); {remedy}"
        )


def processors() -> int:
    """Processors this process may use: under a scheduler fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
