"""Devices by name; under torchrun each process takes the GPU of its own number."""

from __future__ import annotations

import torch

from ..errors import InputError, suggestion
from .distributed import local_rank, world_size

KNOWN = ("auto", "cpu", "cuda", "cuda:0", "mps", "xpu")
"""names of devices that may be suggested"""


def check_device_name(name: str) -> None:
    """Refuse a name that is of no kind of device; whether there is such a device here is not asked."""
    try:
        torch.device("cpu" if name == "auto" else name)
    except RuntimeError as error:
        near = " (did you mean 'cuda'?)" if name == "gpu" else suggestion(name, KNOWN)  # cpu is spelt nearer
        raise InputError(f"device {name!r} is unknown{near}; use auto, cpu, cuda or cuda:N") from error


def device_of(name: str) -> torch.device:
    """The device that a name means for this process. A GPU with a number becomes the current one.

    Args:
        name: ``auto`` (cuda where there is one, else cpu), or a name of torch's, such as ``cpu`` or
            ``cuda:1``. Under torchrun ``auto`` and ``cuda`` are the GPU of the process's number on its
            machine.

    Raises:
        InputError: there is no such name or no such device, or the machine has more processes than GPUs.
    """
    check_device_name(name)
    device = _chosen(name)
    try:
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # Triton launches its kernels on the current device
        torch.zeros(1, device=device).item()  # meta, which computes nothing, has no item
    except (RuntimeError, AssertionError) as error:
        raise _unusable(name, error) from error
    return device


def _chosen(name: str) -> torch.device:
    """The device of a name, without a look at whether it works."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if count else "cpu") if name == "auto" else name)
    if device.type != "cuda" or device.index is not None or world_size() == 1 or not count:
        return device
    if local_rank() >= count:
        raise InputError(
            f"device {name!r}: process {local_rank()} of this machine has no GPU of its own, because there "
            f"are {count}; start torchrun with --nproc-per-node {count}, or use device=cpu"
        )
    return torch.device("cuda", local_rank())


def _unusable(name: str, error: BaseException) -> InputError:
    return InputError(f"device {name!r} cannot be used here ({error}); use device=auto or device=cpu")
