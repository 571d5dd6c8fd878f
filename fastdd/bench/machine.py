"""On what a benchmark ran: the device, its instructions, and the versions that decide about speed."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .results import Machine
from .work import Scale

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
        packages={package: package_version(package) for package in PACKAGES},
        note=note,
    )


def package_version(package: str) -> str | None:
    """The installed version of a package; None: it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """The model of the processor, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
