"""Teachers on disk: safetensors weights with a card (card.py) that says what the network expects and knows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..models.build import AUXILIARY, build
from ..runtime.files import write_tensors
from .card import KEY, Card, check_card, read_card


@dataclass(frozen=True)
class Teacher:
    """A network in eval mode with its card."""

    network: nn.Module
    card: Card

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] -> float32, channels-last, normalized with the teacher's constants."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of normalize, but for the 255 levels: black is 0, white is 1."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return images * std + mean

    def bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalized values of black and white, each [C, 1, 1]: the box to which images are clipped."""
        mean, std = (self._constant(v, device) for v in (self.card.mean, self.card.std))
        return -mean / std, (1 - mean) / std

    @staticmethod
    def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
        return torch.tensor(values, device=device).view(-1, 1, 1)


def save_teacher(path: Path, teacher: Teacher) -> None:
    """Write weights and card atomically."""
    write_tensors(path, teacher.network.state_dict(), {KEY: json.dumps(asdict(teacher.card))})


def fingerprint(path: Path) -> str:
    """sha256 of the file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(key: str, path: Path, network: str) -> tuple[dict[str, Tensor], Card | None]:
    """The tensors of a file and its card, where it has one.

    Args:
        key: the recipe's key that names the file, for messages.
        network: name of the network; tensors of its auxiliary classifiers are left out.

    Raises:
        InputError: no such file, not a safetensors file, or a damaged card.
    """
    if not path.is_file():
        raise InputError(f"{key}: {path} does not exist; give a .safetensors file, or null to train one")
    try:
        with safe_open(str(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{key}: {path} is not a safetensors file ({error}); convert it first") from error
    unused = AUXILIARY.get(network, ())
    state = {name: tensor for name, tensor in state.items() if not name.startswith(unused)}
    return state, read_card(key, path, metadata)


def load_teacher(
    path: Path,
    config: TeacherConfig,
    classes: tuple[str, ...],
    channels: int,
    device: torch.device,
    *,
    key: str = "teacher.weights",
) -> Teacher:
    """Load a teacher and check that it fits the recipe and the data.

    Args:
        path: safetensors file; its own card, where it has one, must agree with the recipe.
        classes: class names of the data, in order.
        channels: of the data's images.
        key: the recipe's key or the option that names the file, for messages.

    Raises:
        InputError: no such file, not a safetensors file, or weights, classes or card that do not fit.
    """
    state, card = read_weights(key, path, config.network)
    expected = Card(config.network, classes, channels, config.mean, config.std)
    if card is not None:
        check_card(key, path, card, expected, ("network", "classes", "channels", "mean", "std"))
    network = build(config.network, len(classes), channels)
    check_state(key, path, config.network, network.state_dict(), state)
    network.load_state_dict(state)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(network.eval().requires_grad_(False), card or expected)


def open_teacher(path: Path, device: torch.device) -> Teacher:
    """Load a teacher as its own card describes it.

    Raises:
        InputError: no such file, not a safetensors file, no card, or weights that do not fit the card.
    """
    key = "--teacher"
    _, card = read_weights(key, path, "")
    if card is None:
        raise InputError(
            f"{key}: {path} has no card, so its network and classes are unknown; give it to a run as teacher.weights "
            "and take the teacher.safetensors of that run's folder"
        )
    config = TeacherConfig(network=card.network, mean=card.mean, std=card.std)
    return load_teacher(path, config, card.classes, card.channels, device, key=key)


def check_state(key: str, path: Path, name: str, wanted: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Name the first tensor that does not fit, and say what a wrong last layer means.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    if missing := sorted(wanted.keys() - given.keys()):
        raise InputError(
            f"{key}: {path} is no {name}: tensor {missing[0]!r} is missing ({len(missing)} in all)"
        )
    if extra := sorted(given.keys() - wanted.keys()):
        raise InputError(
            f"{key}: {path} is no {name}: it holds an unknown tensor {extra[0]!r} ({len(extra)} in all)"
        )
    for tensor_name, tensor in wanted.items():
        if given[tensor_name].shape != tensor.shape:
            last = list(wanted)[-1].rpartition(".")[0]
            hint = "; the number of classes differs from the data's" if tensor_name.startswith(last) else ""
            raise InputError(
                f"{key}: {path} does not fit {name}: {tensor_name} is {list(given[tensor_name].shape)}, "
                f"expected {list(tensor.shape)}{hint}"
            )
