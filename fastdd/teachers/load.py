"""Teachers on disk: safetensors weights with a card that says what the network expects and knows.

The card (network, classes, channels, normalisation, accuracy) is JSON in the file's metadata. Files from
elsewhere have none; the recipe then supplies it, and the shapes are checked against the data.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .. import recipe
from ..errors import InputError
from ..files import write_tensors
from .networks import build


@dataclass(frozen=True)
class Card:
    """What a teacher expects and knows."""

    network: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float | None = None
    """top-1 on the test split, a fraction"""

    @staticmethod
    def from_json(text: str) -> Card:
        """The card in a file's metadata."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        return Card(**values)


@dataclass(frozen=True)
class Teacher:
    """A network in eval mode with its card."""

    network: nn.Module
    card: Card

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] -> float32, channels-last, normalised with the teacher's constants."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def to_uint8(self, images: Tensor) -> Tensor:
        """The inverse of normalise, clamped and rounded."""
        mean, std = (self._constant(v, images.device) for v in (self.card.mean, self.card.std))
        return ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)

    def bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised values of black and white, each [C, 1, 1]: the box to which images are clipped."""
        mean, std = (self._constant(v, device) for v in (self.card.mean, self.card.std))
        return -mean / std, (1 - mean) / std

    @staticmethod
    def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
        return torch.tensor(values, device=device).view(-1, 1, 1)


def save_teacher(path: Path, teacher: Teacher) -> None:
    """Write weights and card atomically."""
    write_tensors(path, teacher.network.state_dict(), {"fastdd": json.dumps(asdict(teacher.card))})


def fingerprint(path: Path) -> str:
    """sha256 of the file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_teacher(
    path: Path, config: recipe.Teacher, classes: tuple[str, ...], channels: int, device: torch.device
) -> Teacher:
    """Load a teacher and check that it fits the recipe and the data.

    Args:
        path: safetensors file; its own card, where it has one, must agree with the recipe.
        classes: class names of the data, in order.
        channels: of the data's images.

    Raises:
        InputError: no such file, not a safetensors file, or weights, classes or card that do not fit.
    """
    if not path.is_file():
        raise InputError(f"teacher.weights: {path} does not exist; give a .safetensors file, or null to train one")
    try:
        with safe_open(str(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"teacher.weights: {path} is not a safetensors file ({error}); convert it first") from error
    network = build(config.network, len(classes), channels)
    _check_state(path, config.network, network.state_dict(), state)
    network.load_state_dict(state)
    card = Card(config.network, classes, channels, config.mean, config.std)
    if "fastdd" in metadata:
        card = _check_card(path, _read_card(path, metadata["fastdd"]), card)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(network.eval().requires_grad_(False), card)


def _check_state(path: Path, name: str, wanted: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Name the first tensor that does not fit, and say what a wrong last layer means."""
    if missing := sorted(wanted.keys() - given.keys()):
        raise InputError(
            f"teacher.weights: {path} is no {name}: tensor {missing[0]!r} is missing ({len(missing)} in all)"
        )
    if extra := sorted(given.keys() - wanted.keys()):
        raise InputError(
            f"teacher.weights: {path} is no {name}: it holds an unknown tensor {extra[0]!r} ({len(extra)} in all)"
        )
    for key, tensor in wanted.items():
        if given[key].shape != tensor.shape:
            last = list(wanted)[-1].rpartition(".")[0]
            hint = "; the number of classes differs from the data's" if key.startswith(last) else ""
            raise InputError(
                f"teacher.weights: {path} does not fit {name}: {key} is {list(given[key].shape)}, "
                f"expected {list(tensor.shape)}{hint}"
            )


def _read_card(path: Path, text: str) -> Card:
    try:
        return Card.from_json(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"teacher.weights: the card in {path} cannot be read ({error}); save the file again"
        ) from error


def _check_card(path: Path, card: Card, expected: Card) -> Card:
    """The file's card, if it agrees with the recipe and the data."""
    for field in ("network", "classes", "channels", "mean", "std"):
        ours, theirs = getattr(expected, field), getattr(card, field)
        if ours != theirs:
            raise InputError(f"teacher.weights: {path} was made for {field} {theirs}, but this run has {ours}")
    return card
