"""Devices by name."""

from __future__ import annotations

import torch

from ..errors import InputError


def device_of(name: str) -> torch.device:
    """A device that can be used here; ``auto`` is cuda where there is one, else cpu.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used here ({error}); use device=auto or device=cpu"
        ) from error
    return device
