"""Teachers on disk: weights (weights.py) with a card (card.py); fastdd writes safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..models.build import build, memory_format, to_device
from ..models.doors import check_recorded_network
from ..runtime.files import write_tensors
from .card import METADATA_KEY, Card, check_card
from .weights import Weights, check_state, read_weights, tell


@dataclass(frozen=True)
class Teacher:
    """A network in eval mode with its card.

    Attributes:
        notes: what was made of the file of its weights, in words.
    """

    network: nn.Module
    card: Card
    notes: tuple[str, ...] = ()
    memory_format: torch.memory_format = torch.channels_last

    @staticmethod
    def of(network: nn.Module, card: Card, device: torch.device, *, notes: tuple[str, ...] = ()) -> Teacher:
        """A teacher of a network, which is moved to the device, put in eval mode and frozen."""
        network = to_device(network, device).eval().requires_grad_(False)
        return Teacher(network, card, notes, memory_format(network, device))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] to float32, in the network's memory format, normalized by the card's mean and
        std."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=self.memory_format)

    def denormalize(self, images: Tensor) -> Tensor:
        """Normalized images [N, C, H, W] to values in which black is 0 and white is 1, not rounded."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return images * std + mean

    def bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The normalized values of black and white, each [C, 1, 1]: the box to which images are clipped."""
        mean, std = (self._constant(v, device) for v in (self.card.mean, self.card.std))
        return -mean / std, (1 - mean) / std

    @staticmethod
    def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
        return torch.tensor(values, device=device).view(-1, 1, 1)


def save_teacher(path: Path, teacher: Teacher) -> None:
    """Write weights and card; the file is there whole or not at all."""
    write_tensors(
        path,
        separate_tensors(teacher.network.state_dict()),
        {METADATA_KEY: json.dumps(teacher.card.content())},
    )


def separate_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state in which no two tensors share memory, which safetensors refuses; tied weights are copied."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate


def fingerprint(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_teacher(
    path: Path,
    config: TeacherConfig,
    classes: tuple[str, ...],
    channels: int,
    *,
    device: torch.device,
    key: str = "teacher.weights",
) -> Teacher:
    """Load a teacher and check that it fits the recipe and the data.

    Args:
        path: a file of weights, see weights.py; its own card, where it has one, must agree with the recipe.
        config: its ``network``, ``mean`` and ``std`` are read.
        key: the recipe's key that names the file, for messages.

    Raises:
        InputError: the file is absent or no weights, or its weights, classes or card do not fit.
    """
    weights = read_weights(key, path)
    expected = Card(config.network, classes, channels, config.mean, std=config.std)
    if weights.card is not None:
        fields = ("network", "classes", "channels", "mean", "std")
        check_card(key, path, weights.card, expected, fields=fields)
    return _teacher_of(key, path, weights, weights.card or expected, device=device)


def open_teacher(path: Path, device: torch.device, network: str | None = None) -> Teacher:
    """Load a teacher as its own card describes it.

    Args:
        path: safetensors file with a card.
        network: name of the network, in place of the card's. A network that is a function must be named here,
            since a card alone never makes fastdd import or call one. None: the card's.

    Raises:
        InputError: the file is absent, no safetensors file or has no card, its card names a function or an
            object and ``network`` is None, or its weights do not fit the network.
    """
    key = "--teacher"
    weights = read_weights(key, path)
    if (card := weights.card) is None:
        raise InputError(
            f"{key}: {path} has no card, so its network and classes are unknown; give it to a run as "
            "teacher.weights and take the teacher.safetensors of that run's folder"
        )
    if network is None:
        check_recorded_network(card.network, f"{key}: the card of {path}", "--teacher-network")
    card = replace(card, network=network or card.network)
    teacher = _teacher_of(key, path, weights, card, device=device)
    tell(key, path, teacher.notes)
    return teacher


def _teacher_of(key: str, path: Path, weights: Weights, card: Card, *, device: torch.device) -> Teacher:
    """The teacher that a card describes, with the weights of a file."""
    network = build(card.network, len(card.classes), card.channels)
    wanted = network.state_dict()
    weights = weights.fitted(card.network, wanted)
    check_state(key, path, card.network, wanted=wanted, given=weights.state)
    network.load_state_dict(weights.state)
    return Teacher.of(network, card, device, notes=weights.notes)
