"""What a step of training consists of: the optimizer, its learning rate, and the average of the weights.

The learning rate is a function of the step alone, and the optimizer's momenta are its only state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..config import Teacher


def learning_rate(config: Teacher, step: int, steps: int) -> float:
    """The learning rate of a step, 0 <= step < steps.

    onecycle: half a cosine from lr / 25 up to lr, and half a cosine down to lr / 250000 (Smith and Topin, 2019, as
    torch's OneCycleLR has it; the momentum is not cycled). cosine: linearly up to lr, and half a cosine down to 0.
    """
    if config.schedule == "onecycle":
        top = max(0.0, config.warmup * steps - 1)
        if step < top:
            return _between(config.lr / 25, config.lr, step / top)
        return _between(config.lr, config.lr / 250_000, (step - top) / max(1.0, steps - 1 - top))
    top = config.warmup * steps
    if step < top:
        return config.lr * (step + 1) / (top + 1)
    return _between(config.lr, 0.0, (step - top) / (steps - top))


def _between(start: float, end: float, part: float) -> float:
    """Half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def optimizer(config: Teacher, network: nn.Module) -> torch.optim.SGD:
    """SGD over all parameters; without ``decay_norms`` those of one dimension (BatchNorm, biases) do not decay."""
    groups = decay_groups(network, config.weight_decay, lambda name, p: config.decay_norms or p.ndim > 1)
    return torch.optim.SGD(
        groups, config.lr, config.momentum, nesterov=config.nesterov and config.momentum > 0
    )


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
