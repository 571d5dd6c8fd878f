"""The state of a squeeze on disk: one file, replaced whole after each epoch, so its parts belong together.

The order of the images and their augmentation are functions of (seed, epoch), so the weights, their average,
the momenta, the curve and the snapshots so far are the whole state. Cost: two to three times the size of the
weights, and the snapshots, written once an epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        lr: the learning rate of its last step.
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


@dataclass
class State:
    """All that a training has become.

    Attributes:
        average: the average of its weights; None: there is none.
        scores: what was noted of the training images; None: nothing is.
        asked: the epochs after which snapshots are kept.
        snapshots: epoch -> the embeddings that were kept after it.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    scores: ImageScores | None = None
    asked: Sequence[int] = ()
    curve: list[Epoch] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)

    def save(self, path: Path, owner: str) -> None:
        """Write a checkpoint after ``len(curve)`` epochs; ``owner`` is the training's identity."""
        tensors = self._weights()
        tensors |= {f"{SNAPSHOT}/{epoch}": rows for epoch, rows in self.snapshots.items()}
        if self.scores is not None:
            tensors |= {f"{SCORES}/{name}": values for name, values in self.scores.stored().items()}
        for name, parameter in self.network.named_parameters():
            if MOMENTUM in self.optimizer.state[parameter]:
                tensors[f"{MOMENTUM}/{name}"] = self.optimizer.state[parameter][MOMENTUM]
        noted = json.dumps({"owner": owner, "curve": self.curve})
        write_tensors(path, separate_tensors(tensors), {METADATA_KEY: noted})

    def restore(self, path: Path, owner: str) -> None:
        """Load a checkpoint where there is one."""
        if not path.is_file():
            return
        groups: dict[str, dict[str, torch.Tensor]] = {
            name: {} for name in ("network", "average", MOMENTUM, SNAPSHOT, SCORES)
        }
        file = TensorFile(path, REMEDY)
        state = file.note(METADATA_KEY, _State)
        if state["owner"] != owner:
            raise InputError(
                f"the checkpoint {path} is of another training; delete it, or choose another folder with "
                "--out"
            )
        self._require_content(file, len(state["curve"]))
        for key, value in file.tensors().items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        self.network.load_state_dict(groups["network"])
        if self.average is not None:
            self.average.network.load_state_dict(groups["average"])
        for name, parameter in self.network.named_parameters():
            if name in groups[MOMENTUM]:
                self.optimizer.state[parameter][MOMENTUM] = groups[MOMENTUM][name].to(parameter.device)
        if self.scores is not None:
            self.scores.load(groups[SCORES])
        self.snapshots |= {int(epoch): rows for epoch, rows in groups[SNAPSHOT].items()}
        self.curve[:] = state["curve"]

    def _require_content(self, file: TensorFile, epochs: int) -> None:
        """Refuse a file that does not hold what this training has become after some epochs."""
        wanted = self._weights()
        counters = {name for name, tensor in wanted.items() if not tensor.is_floating_point()}
        momenta = {f"{MOMENTUM}/{name}": value for name, value in self.network.named_parameters()}
        wanted |= {name: value for name, value in momenta.items() if name in file.shapes}
        shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
        shapes |= {f"{SNAPSHOT}/{epoch}": (-1, -1) for epoch in self.asked if epoch <= epochs}
        if self.scores is not None:
            noted = {f"{SCORES}/{name}": values for name, values in self.scores.stored().items()}
            shapes |= {name: tuple(values.shape) for name, values in noted.items()}
            counters |= {name for name, values in noted.items() if not values.is_floating_point()}
        file.require(shapes, counters)
        if unknown := file.shapes.keys() - shapes.keys():
            raise file.damaged(f"it holds an unknown tensor {min(unknown)!r}")

    def _weights(self) -> dict[str, torch.Tensor]:
        """The tensors of the network and of its average, by their names in the file."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average/{name}": value for name, value in self.average.network.state_dict().items()}
        return tensors
