"""What the training of teachers and of students shares: accuracy, weight decay, and the average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

EVALUATION_BATCH = 500


def accuracy(
    network: Callable[[Tensor], Tensor], normalize: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> float:
    """Top-1 accuracy of a classifier on uint8 images [N, C, H, W], as a fraction."""
    pairs = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    return streamed_accuracy(network, normalize, pairs)


@torch.no_grad()
def streamed_accuracy(
    network: Callable[[Tensor], Tensor],
    normalize: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Top-1 accuracy of a classifier on batches of uint8 images and labels, as a fraction."""
    hits, seen = [], 0
    for images, labels in batches:
        hits.append((network(normalize(images)).argmax(1) == labels).sum())
        seen += len(labels)
    return int(torch.stack(hits).sum()) / seen if seen else 0.0


def decay_groups(
    network: nn.Module, weight_decay: float, decays: Callable[[str, nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Groups of an optimizer: the parameters that decay, and those that do not; an empty one is left out.

    Args:
        decays: tells by name and tensor which do.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Average:
    """The exponential moving average of a network: its parameters and its BatchNorm statistics.

    Early on the decay is (1 + n) / (10 + n) after n steps, which forgets the random start.

    Args:
        network: what is averaged; it is copied.
        decay: at the most, in [0, 1).

    Attributes:
        network: the average, in eval mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, the first being 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)([a for a, _ in real], [b for _, b in real], torch.tensor(step))
        for ours, theirs in pairs:
            if not ours.is_floating_point():
                ours.copy_(theirs)
