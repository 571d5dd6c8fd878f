"""What the device can do at best: bytes a second of a copy, operations a second of a matrix product."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch

from ..config import Precision
from ..runtime.precision import float32_products
from .clock import seconds_of
from .results import Ceilings, Clock
from .work import Least

ROUNDS = 5


def measured(device: torch.device, clock: Clock, *, quick: bool) -> Ceilings:
    """The ceilings, each the median of some rounds, by the clock of the works that they bound."""
    size = 1 << (24 if quick else 27 if device.type == "cpu" else 29)
    side = 512 if quick else 1024 if device.type == "cpu" else 4096
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    copy = _median(lambda: target.copy_(source), clock, device)
    rates = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        product = torch.empty_like(a)
        with float32_products(precision):
            rates[precision] = 2 * side**3 / _median(partial(torch.mm, a, b, out=product), clock, device)
    return Ceilings(copy_bytes=2 * size / copy, fp32_operations=rates["fp32"], bf16_operations=rates["bf16"])


def floor_seconds(least: Least, ceilings: Ceilings) -> float:
    """The seconds below which no side can come: all bytes at the rate of a copy, or all operations at that of
    a product, whichever takes longer."""
    rate = ceilings.bf16_operations if least.precision == "bf16" else ceilings.fp32_operations
    return max(least.bytes / ceilings.copy_bytes, least.operations / rate)


def _median(call: Callable[[], object], clock: Clock, device: torch.device) -> float:
    call()
    return statistics.median(seconds_of(call, 3, clock, device) for _ in range(ROUNDS))
