"""A network as a function of one vector that holds all its weights, as trajectories need it.

Experts are stored as such vectors, and a student moves along them. The vector holds the parameters in the
order of ``named_parameters``. Cost: one copy of the weights in the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import InputError


class FlatNetwork:
    """Gives the logits of a network for weights [P]. Dropout is off.

    Args:
        network: its own weights are never read; it may be on the meta device.

    Attributes:
        size: P, the number of weights.

    Raises:
        InputError: the network keeps more than its parameters, such as the statistics of BatchNorm, so that
            its weights alone do not say what it computes.
    """

    def __init__(self, network: nn.Module, key: str = "network") -> None:
        if (more := more_than_weights(network)) is not None:
            raise InputError(f"{key}: the network {more}, such as convnet")
        self.network = network.eval()
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self.size = sum(self._sizes)

    def __call__(self, weights: Tensor, images: Tensor) -> Tensor:
        """The logits [N, classes] of images [N, C, H, W], differentiable in both arguments."""
        parts = zip(self._shapes.items(), weights.split(self._sizes), strict=True)
        return functional_call(
            self.network, {name: part.view(shape) for (name, shape), part in parts}, images
        )


def more_than_weights(network: nn.Module) -> str | None:
    """Why a network is no function of its weights alone, and what to do, for a message; None: it is one."""
    kept = next((name for name, _ in network.named_buffers()), None)
    return kept and (
        f"keeps statistics ({kept}) beside its weights, but a trajectory is made of weights alone; choose "
        "one without BatchNorm"
    )


def flattened(network: nn.Module) -> Tensor:
    """The weights of a network in one vector, [P] float32."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
