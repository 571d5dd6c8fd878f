"""The machine: what a benchmark ran on, and what that can do at best."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from functools import partial

import torch

from ..config import Precision
from ..run_folder.session import processor_name
from ..runtime.doctor import installed_version
from ..runtime.precision import float32_products
from .clock import seconds_of
from .results import Ceilings, Clock, Machine
from .work import Least, Scale

PACKAGES = (
    "torch",
    "triton",
    "torchvision",
    "torchmetrics",
    "nvidia-dali-cuda130",
    "prdc",
    "vendi-score",
    "scikit-learn",
    "pillow",
    "numpy",
)
# Fresh pages cost milliseconds a megabyte on some virtual machines, so how the allocator is set decides much.
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def this_machine(scale: Scale, note: str = "") -> Machine:
    """The machine, as a file of results names it."""
    cuda = scale.device.type == "cuda"
    allocator = {k: v for k, v in os.environ.items() if k in ALLOCATOR or k.startswith("MALLOC_")}
    return Machine(
        device=torch.cuda.get_device_name(scale.device) if cuda else processor_name(),
        instructions=f"CUDA {torch.version.cuda}" if cuda else torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        precision=scale.precision,
        allocator=allocator,
        packages={package: installed_version(package) for package in PACKAGES},
        note=note,
    )


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
