"""The weights that training begins with: random ones, or those of a file, with a new last layer if asked for.

A file that knows other classes (by its card, or by the shape of its last layer) is refused unless
``teacher.new_head`` allows to forget them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import Teacher
from ..errors import InputError
from ..models.build import build
from .card import Card, check_card, differences
from .load import check_state, read_weights


def start(config: Teacher, expected: Card, seed: int, *, key: str = "teacher") -> tuple[nn.Module, list[str]]:
    """The network before training, on the CPU, and what is worth saying about it.

    Args:
        config: network, ``init`` and ``new_head``.
        expected: classes, channels, normalization and size of this run.
        seed: of what is drawn.
        key: the teacher's section of the recipe, for messages.

    Raises:
        InputError: the file of ``init`` is absent, damaged, or of another network, channels or classes.
    """
    torch.manual_seed(seed)
    network = build(config.network, len(expected.classes), expected.channels)
    if config.init is None:
        return network, []
    path, section, key = Path(config.init), key, f"{key}.init"
    given, card = read_weights(key, path, config.network)
    notes = []
    if card is not None:
        notes = [f"{path.name}: {text}" for text in differences(card, expected, ("mean", "std", "size"))]
        check_card(key, path, card, expected, ("network", "channels"))
    wanted = network.state_dict()
    head = _head(wanted, given)
    others = card is not None and card.classes != expected.classes
    if others or any(wanted[name].shape != given[name].shape for name in head):
        if not config.new_head:
            _refuse_classes(section, path, card, expected, wanted, given, config.network)
        given |= {name: wanted[name] for name in head}
        notes.append(f"{path.name} knows other classes: {', '.join(head)} start anew")
    check_state(key, path, config.network, wanted, given)
    network.load_state_dict(given)
    return network, notes


def _head(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Tensors of the last layer that hold one row a class, in both."""
    last = list(wanted)[-1].rpartition(".")[0] + "."
    names = [name for name in wanted if name.startswith(last) and name in given]
    return [name for name in names if wanted[name].shape[1:] == given[name].shape[1:]]


def _refuse_classes(
    key: str,
    path: Path,
    card: Card | None,
    expected: Card,
    wanted: dict[str, Tensor],
    given: dict[str, Tensor],
    name: str,
) -> None:
    """Say why, and that the last layer may be replaced."""
    try:
        if card is not None:
            check_card(f"{key}.init", path, card, expected, ("classes",))
        check_state(f"{key}.init", path, name, wanted, given)
    except InputError as error:
        raise InputError(f"{error}; {key}.new_head=true starts the last layer anew") from error
