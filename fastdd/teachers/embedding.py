"""What makes a network a teacher: its last linear layer, whose input is the embedding of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError


def require_embedding(key: str, name: str, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse a network from which taps.py could take no embedding [N, D].

    Args:
        key: the recipe's key that names the network, for messages.
        name: name of the network.
        network: the network on the meta device (models.build.outline).
        shape: (C, H, W) of an image.

    Raises:
        InputError: it has no linear layer, or its last one does not take one vector an image.
    """
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            f"{key}: {name} has no nn.Linear, so it has no embedding, which is the input of the last one; "
            "let an nn.Linear give the logits"
        )
    last, inputs = network.get_submodule(linear[-1]), list[torch.Size]()

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0].shape)

    handle = last.register_forward_pre_hook(note)
    try:
        network(torch.zeros(2, *shape, device="meta"))
    except Exception:  # a network whose code needs values, which the meta device lacks, is not looked into
        return
    finally:
        handle.remove()
    if len(inputs) != 1 or len(inputs[0]) != 2:
        found = f"takes {list(inputs[0])} of 2 images" if inputs else "is not called"
        raise InputError(
            f"{key}: the last nn.Linear of {name} ({linear[-1]}) {found}, expected one call with one vector "
            "an image, its embedding; define the layer that gives the logits after all others"
        )
