"""Teachers on disk: safetensors weights with a card (card.py)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..models.build import auxiliary_tensors, build
from ..models.doors import check_recorded_network
from ..models.memory_format import as_input, to_device
from ..runtime.files import write_tensors
from .card import METADATA_KEY, Card, check_card, read_card


@dataclass(frozen=True)
class Teacher:
    """A network in eval mode with its card."""

    network: nn.Module
    card: Card

    @staticmethod
    def of(network: nn.Module, card: Card, device: torch.device) -> Teacher:
        """A teacher of a network, which is moved to the device, put in eval mode and frozen."""
        return Teacher(to_device(network, device).eval().requires_grad_(False), card)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] to float32, in the network's memory format, normalized by the card's mean and
        std."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return as_input((images.float() / 255 - mean) / std, self.network)

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
        path, separate_tensors(teacher.network.state_dict()), {METADATA_KEY: json.dumps(asdict(teacher.card))}
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


def read_weights(key: str, path: Path, network: str) -> tuple[dict[str, Tensor], Card | None]:
    """The tensors of a file by name, and its card where it has one.

    Args:
        key: the recipe's key that names the file, for messages.
        network: name of the network; the tensors of its auxiliary classifiers are left out.

    Raises:
        InputError: the file is absent, no safetensors file, or has a damaged card.
    """
    if not path.is_file():
        raise InputError(f"{key}: {path} does not exist; give a .safetensors file, or null to train one")
    try:
        with safe_open(str(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{key}: {path} is not a safetensors file ({error}); convert it first") from error
    unused = auxiliary_tensors(network)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(unused)}
    return state, read_card(key, path, metadata)


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
        path: safetensors file; its own card, where it has one, must agree with the recipe.
        config: its ``network``, ``mean`` and ``std`` are read.
        classes: class names of the data, in order.
        channels: channels of the data's images.
        device: where the network will be.
        key: the recipe's key that names the file, for messages.

    Raises:
        InputError: the file is absent or no safetensors file, or its weights, classes or card do not fit.
    """
    state, card = read_weights(key, path, config.network)
    expected = Card(config.network, classes, channels, config.mean, std=config.std)
    if card is not None:
        fields = ("network", "classes", "channels", "mean", "std")
        check_card(key, path, card, expected, fields=fields)
    return _teacher_of(key, path, state, card or expected, device=device)


def open_teacher(path: Path, device: torch.device, network: str | None = None) -> Teacher:
    """Load a teacher as its own card describes it.

    Args:
        path: safetensors file with a card.
        device: where the network will be.
        network: name of the network, in place of the card's. A network that is a function must be named here,
            since a card alone never makes fastdd import or call one. None: the card's.

    Raises:
        InputError: the file is absent, no safetensors file or has no card, its card names a function or an
            object and ``network`` is None, or its weights do not fit the network.
    """
    key = "--teacher"
    _, card = read_weights(key, path, "")
    if card is None:
        raise InputError(
            f"{key}: {path} has no card, so its network and classes are unknown; give it to a run as "
            "teacher.weights and take the teacher.safetensors of that run's folder"
        )
    if network is None:
        check_recorded_network(card.network, f"{key}: the card of {path}", "--teacher-network")
    card = replace(card, network=network or card.network)
    state, _ = read_weights(key, path, card.network)
    return _teacher_of(key, path, state, card, device=device)


def _teacher_of(
    key: str, path: Path, state: dict[str, Tensor], card: Card, *, device: torch.device
) -> Teacher:
    """The teacher that a card describes, with the weights of a file.

    Raises:
        InputError: the network cannot be built, or the weights do not fit it.
    """
    network = build(card.network, len(card.classes), card.channels)
    check_state(key, path, card.network, wanted=network.state_dict(), given=state)
    network.load_state_dict(state)
    return Teacher.of(network, card, device)


def check_state(
    key: str, path: Path, network: str, *, wanted: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    """Compare the tensors that a network wants with those of a file.

    Args:
        key: the recipe's key that names the file, for messages.
        network: name of the network.

    Raises:
        InputError: a tensor is missing, unknown or of another shape; the first one is named.
    """
    if missing := sorted(wanted.keys() - given.keys()):
        raise InputError(
            f"{key}: {path} is no {network}: tensor {missing[0]!r} is missing ({len(missing)} in all)"
        )
    if extra := sorted(given.keys() - wanted.keys()):
        raise InputError(
            f"{key}: {path} is no {network}: it holds an unknown tensor {extra[0]!r} ({len(extra)} in all)"
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            last = list(wanted)[-1].rpartition(".")[0]
            hint = "; the number of classes differs from the data's" if name.startswith(last) else ""
            raise InputError(
                f"{key}: {path} does not fit {network}: {name} is {list(given[name].shape)}, "
                f"expected {list(tensor.shape)}{hint}"
            )
