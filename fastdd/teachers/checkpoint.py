"""Training on disk, after an epoch: one file that is replaced whole, so that tensors and numbers belong together.

Orders and augmentations depend on (seed, epoch), so weights, their average, momenta and the curve are all there is.
Cost: two to three times the weights, written once an epoch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ..errors import InputError
from ..runtime.files import write_tensors
from .card import KEY
from .training import Average

MOMENTUM = "momentum_buffer"  # torch.optim.SGD's name


def identity(*values: Any) -> str:
    """A hash of what a training depends on, JSON-like values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def save(
    path: Path,
    owner: str,
    curve: list[dict[str, float]],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
) -> None:
    """Write a checkpoint after ``len(curve)`` epochs.

    Args:
        owner: the identity of the training.
        curve: one entry an epoch.
    """
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.network.state_dict().items()}
    for name, parameter in network.named_parameters():
        if MOMENTUM in optimizer.state[parameter]:
            tensors[f"{MOMENTUM}/{name}"] = optimizer.state[parameter][MOMENTUM]
    write_tensors(path, tensors, {KEY: json.dumps({"owner": owner, "curve": curve})})


def restore(
    path: Path, owner: str, network: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> list[dict[str, float]]:
    """Continue from a checkpoint; returns the curve so far, empty where there is no file.

    Raises:
        InputError: the file is damaged, or of another training.
    """
    if not path.is_file():
        return []
    groups: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, MOMENTUM: {}}
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
        theirs, curve = facts["owner"], facts["curve"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read ({error}); delete it to train from the start"
        ) from error
    if theirs != owner:
        raise InputError(
            f"the checkpoint {path} is of another training; delete it, or choose another folder with --out"
        )
    network.load_state_dict(groups["network"])
    if average is not None:
        average.network.load_state_dict(groups["average"])
    for name, parameter in network.named_parameters():
        if name in groups[MOMENTUM]:
            optimizer.state[parameter][MOMENTUM] = groups[MOMENTUM][name].to(parameter.device)
    return curve
