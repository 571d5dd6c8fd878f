"""The state of a squeeze on disk: one file, replaced whole after each epoch, so its parts belong together.

The order of the images and their augmentation are functions of (seed, epoch), so the weights, their average,
the momenta, the curve and the snapshots so far are the whole state. Cost: two to three times the size of the
weights, and the snapshots, written once an epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import nn
from typing_extensions import TypedDict

from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from .card import METADATA_KEY
from .image_scores import ImageScores
from .load import separate_tensors
from .training import WeightAverage

MOMENTUM = "momentum_buffer"  # torch.optim.SGD's name
SNAPSHOT = "snapshot"
SCORES = "scores"
REMEDY = "delete it to train from the start"


class Epoch(TypedDict):
    """What one epoch of a squeeze reached: one entry of its curve.

    Attributes:
        epoch: its number, from 1.
        lr: the learning rate of its last step.
        loss: the mean training loss.
        accuracy: the test accuracy in [0, 1].
    """

    epoch: int
    lr: float
    loss: float
    accuracy: float


class _State(TypedDict):
    owner: str
    curve: list[Epoch]


def training_identity(*settings: JsonValue) -> str:
    """A hash of everything that a training depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def epochs_done(path: Path) -> int:
    """The epochs that the training of a checkpoint has finished; 0 where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return 0
    return len(TensorFile(path, REMEDY).note(METADATA_KEY, _State)["curve"])


def save(
    path: Path,
    owner: str,
    curve: list[Epoch],
    *,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    snapshots: Mapping[int, torch.Tensor],
    scores: ImageScores | None = None,
) -> None:
    """Write a checkpoint after ``len(curve)`` epochs.

    Args:
        owner: the training's identity, see training_identity.
        curve: one entry for each finished epoch.
        snapshots: epoch -> the embeddings that were kept after it.
        scores: what was noted of the training images; None: nothing is.
    """
    tensors = _weights(network, average)
    tensors |= {f"{SNAPSHOT}/{epoch}": rows for epoch, rows in snapshots.items()}
    if scores is not None:
        tensors |= {f"{SCORES}/{name}": values for name, values in scores.stored().items()}
    for name, parameter in network.named_parameters():
        if MOMENTUM in optimizer.state[parameter]:
            tensors[f"{MOMENTUM}/{name}"] = optimizer.state[parameter][MOMENTUM]
    write_tensors(
        path, separate_tensors(tensors), {METADATA_KEY: json.dumps({"owner": owner, "curve": curve})}
    )


def _weights(network: nn.Module, average: WeightAverage | None) -> dict[str, torch.Tensor]:
    """The tensors of a network and of its average, by their names in the file."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.network.state_dict().items()}
    return tensors


def restore(
    path: Path,
    owner: str,
    *,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    snapshots: dict[int, torch.Tensor],
    asked: Sequence[int],
    scores: ImageScores | None = None,
) -> list[Epoch]:
    """Load a checkpoint into a network, its optimizer, its average and its snapshots.

    Args:
        snapshots: epoch -> embeddings; those of the finished epochs are added.
        asked: the epochs after which snapshots are kept.
        scores: takes over what was noted of the training images; None: nothing is.

    Returns:
        The curve so far; empty where there is no file.

    Raises:
        InputError: the file is damaged, or belongs to another training.
    """
    if not path.is_file():
        return []
    groups: dict[str, dict[str, torch.Tensor]] = {
        name: {} for name in ("network", "average", MOMENTUM, SNAPSHOT, SCORES)
    }
    file = TensorFile(path, REMEDY)
    state = file.note(METADATA_KEY, _State)
    if state["owner"] != owner:
        raise InputError(
            f"the checkpoint {path} is of another training; delete it, or choose another folder with --out"
        )
    wanted = _weights(network, average)
    counters = {name for name, tensor in wanted.items() if not tensor.is_floating_point()}
    momenta = {f"{MOMENTUM}/{name}": value for name, value in network.named_parameters()}
    wanted |= {name: value for name, value in momenta.items() if name in file.shapes}
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    shapes |= {f"{SNAPSHOT}/{epoch}": (-1, -1) for epoch in asked if epoch <= len(state["curve"])}
    if scores is not None:
        noted = scores.stored()
        shapes |= {f"{SCORES}/{name}": tuple(values.shape) for name, values in noted.items()}
        counters |= {f"{SCORES}/{name}" for name, values in noted.items() if not values.is_floating_point()}
    file.require(shapes, counters)
    if unknown := file.shapes.keys() - shapes.keys():
        raise file.damaged(f"it holds an unknown tensor {min(unknown)!r}")
    for key, value in file.tensors().items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    network.load_state_dict(groups["network"])
    if average is not None:
        average.network.load_state_dict(groups["average"])
    for name, parameter in network.named_parameters():
        if name in groups[MOMENTUM]:
            optimizer.state[parameter][MOMENTUM] = groups[MOMENTUM][name].to(parameter.device)
    if scores is not None:
        scores.load(groups[SCORES])
    snapshots |= {int(epoch): rows for epoch, rows in groups[SNAPSHOT].items()}
    return state["curve"]
