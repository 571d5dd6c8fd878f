"""A teacher's optimizer and its learning rate.

The learning rate is a function of the step alone, and the optimizer's momenta are its only state.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import Teacher
from .training import decay_groups


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
