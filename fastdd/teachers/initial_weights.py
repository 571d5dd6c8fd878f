"""The weights that a squeeze starts from: random ones, a file's or released ones, with a new last layer if
asked for.

A file that was made for other classes (by its card, or by the shape of its last layer) is refused unless
``teacher.new_head`` allows a new last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..models.build import build
from .card import Card, check_card, differences
from .released import weights_file
from .weights import check_state, read_weights


def initial_network(
    config: TeacherConfig, expected: Card, seed: int, *, key: str = "teacher"
) -> tuple[nn.Module, list[str]]:
    """The network before training, on the CPU, and notes on its weights for the user.

    Args:
        config: its ``network``, ``init`` and ``new_head`` are read.
        expected: classes, channels, normalization and size of this run.
        key: the recipe's section that describes the teacher, for messages.

    Raises:
        InputError: the file of ``init`` is absent, damaged, or made for another network, channels or classes.
    """
    torch.manual_seed(seed)
    network = build(config.network, len(expected.classes), expected.channels)
    if config.init is None:
        return network, []
    init = f"{key}.init"
    path = weights_file(init, config.init, config.network)
    wanted = network.state_dict()
    weights = read_weights(init, path).fitted(config.network, wanted)
    given, card = weights.state, weights.card
    notes = [f"{path.name}: {text}" for text in weights.notes]
    if card is not None:
        notes += [f"{path.name}: {text}" for text in differences(card, expected, ("mean", "std", "size"))]
        check_card(init, path, card, expected, fields=("network", "channels"))
    head = _head(wanted, given)
    for_other_classes = card is not None and card.classes != expected.classes
    if for_other_classes or any(wanted[name].shape != given[name].shape for name in head):
        if not config.new_head:
            try:
                if card is not None:
                    check_card(init, path, card, expected, fields=("classes",))
                check_state(init, path, config.network, wanted=wanted, given=given)
            except InputError as error:
                raise InputError(f"{error}; {key}.new_head=true starts the last layer anew") from error
        given |= {name: wanted[name] for name in head}
        notes.append(f"{path.name} knows other classes: {', '.join(head)} start anew")
    check_state(init, path, config.network, wanted=wanted, given=given)
    network.load_state_dict(given)
    return network, notes


def _head(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Names of the last layer's tensors that hold one row a class, in both states."""
    last = list(wanted)[-1].rpartition(".")[0] + "."
    names = [name for name in wanted if name.startswith(last) and name in given]
    return [name for name in names if wanted[name].shape[1:] == given[name].shape[1:]]
