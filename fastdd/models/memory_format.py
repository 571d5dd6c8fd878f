"""The memory layout in which a network is fast on a device, and bringing networks and batches into it.

Convolutions are fast in channels-last, and so are BatchNorm and pooling; but torch's GroupNorm on a CPU reads
channels-last slowly, so that a training step of convnet3 takes 2 to 3 times as long there as in contiguous
memory. Images may come in any layout: they are brought into the network's where they enter it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def memory_format(network: nn.Module, device: torch.device) -> torch.memory_format:
    """The layout of a network's weights and images: contiguous on a CPU where it has a GroupNorm, else
    channels-last."""
    if device.type == "cpu" and any(isinstance(module, nn.GroupNorm) for module in network.modules()):
        return torch.contiguous_format
    return torch.channels_last


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, in its memory format there; the network is changed and returned."""
    layout = memory_format(network, device)
    moved: nn.Module = network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return moved


def as_input(images: Tensor, network: nn.Module) -> Tensor:
    """Images [N, C, H, W] in the memory format of a network on their device; the values are the same."""
    return images.contiguous(memory_format=memory_format(network, images.device))
