"""What the device can do at best: bytes a second of a copy, operations a second of the matrix library."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, calls: int = 20, rounds: int = 5) -> float:
    """Seconds of one call among several in a row, so that a GPU is never idle between them."""
    call()
    times = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def copy_rate(device: torch.device, size: int = 1 << 29) -> float:
    """Bytes read and written a second by a device copy of ``size`` bytes."""
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def matmul_rate(device: torch.device, n: int = 4096) -> float:
    """Operations a second of a float32 product of two n x n matrices, at the precision the process allows."""
    a, b = (torch.zeros(n, n, device=device).normal_() for _ in range(2))
    product = torch.empty(n, n, device=device)
    return 2 * n**3 / seconds(lambda: torch.mm(a, b, out=product), device)
