"""The optimizer of a squeeze, and its learning rate.

The learning rate is a function of the step alone, and the optimizer's momenta are its only state.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import Teacher as TeacherConfig
from .training import decay_groups


def learning_rate(config: TeacherConfig, step: int, steps: int) -> float:
    """The learning rate of a step, 0 <= step < steps.

    onecycle: half a cosine from lr / 25 up to lr, then half a cosine down to lr / 250000 (Smith and Topin,
    2019, as in torch's OneCycleLR, without its cycled momentum). cosine: a straight line up to lr, then half
    a cosine to 0. constant: a straight line up to lr, which stays.
    """
    if config.schedule == "onecycle":
        top = max(0.0, config.warmup * steps - 1)
        if step < top:
            return _half_cosine(config.lr / 25, config.lr, step / top)
        return _half_cosine(config.lr, config.lr / 250_000, (step - top) / max(1.0, steps - 1 - top))
    top = config.warmup * steps
    if step < top:
        return config.lr * (step + 1) / (top + 1)
    if config.schedule == "constant":
        return config.lr
    return _half_cosine(config.lr, 0.0, (step - top) / (steps - top))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def sgd(config: TeacherConfig, network: nn.Module) -> torch.optim.SGD:
    """SGD; 1-D parameters (BatchNorm, biases) have weight decay only where ``decay_norms`` is set."""
    groups = decay_groups(network, config.weight_decay, lambda name, p: config.decay_norms or p.ndim > 1)
    return torch.optim.SGD(
        groups, config.lr, config.momentum, nesterov=config.nesterov and config.momentum > 0
    )
