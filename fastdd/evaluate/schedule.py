"""The schedules of a student: learning rate, temperature, momentum and tests, step by step.

The learning rate of a protocol with peak lr, after a part p of the training:

    cosine      lr (1 + cos(pi p / s)) / 2       s: stretch; with s = 2 it ends at lr / 2
    cos2        the same up to p = 5/6, then (1 - p) times its value at 5/6, which is a line down to 0
    multistep   lr f^k                           k: number of milestones passed; f: milestone_factor

A warm-up comes first, on a line from warmup_start lr to lr; p counts what is left of the training after it.
With ``restart_momentum`` the optimizer begins anew at each milestone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import Student
from ..protocols import SettledStudent
from .loss import scheduled_temperature


def learning_rate(config: SettledStudent, step: int, steps: int, batches: int) -> float:
    """The learning rate of a step, 0 <= step < steps; an epoch has ``batches`` steps."""
    return config.peak_lr * learning_rate_factor(config, *done_of_total(config, step, steps, batches))


def done_of_total(config: Student, step: int, steps: int, batches: int) -> tuple[float, float]:
    """What is done before a step, and all that is to be done, in steps or epochs (``lr_interval``)."""
    return (step, steps) if config.lr_interval == "step" else (step // batches, steps / batches)


def learning_rate_factor(config: Student, done: float, total: float) -> float:
    """The learning rate as a part of ``lr``, after ``done`` of ``total`` steps or epochs."""
    warmup = config.warmup * total
    if done < warmup:
        return config.warmup_start + (1 - config.warmup_start) * done / warmup
    done, total = done - warmup, total - warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "multistep":
        return config.milestone_factor ** _milestones_passed(config, done, total)
    if config.schedule == "cos2" and 6 * done > 5 * total:
        return _cosine(5, 6, config.stretch) * (1 - done / total)
    return _cosine(done, total, config.stretch)


def temperature_at(
    config: Student, step: int, steps: int, *, batches: int, device: torch.device
) -> Tensor | None:
    """T of a step as a scalar tensor; None: it has no schedule. An epoch has ``batches`` steps."""
    if config.temperature_schedule is None:
        return None
    value = scheduled_temperature(config, *done_of_total(config, step, steps, batches))
    return torch.full((), value, device=device)


def _milestones_passed(config: Student, done: float, total: float) -> int:
    """How many milestones lie at or before ``done`` of ``total`` steps or epochs after the warm-up."""
    return sum(done >= part * total - 1e-9 * total for part in config.milestones)


def restarts_momentum(config: Student, step: int, steps: int, batches: int) -> bool:
    """Whether the optimizer forgets its momentum before a step: the first one after a milestone."""
    if not config.restart_momentum or not step:
        return False
    passed = []
    for number in (step - 1, step):
        done, total = done_of_total(config, number, steps, batches)
        warmup = config.warmup * total
        passed.append(_milestones_passed(config, done - warmup, total - warmup))
    return passed[1] > passed[0]


def _cosine(done: float, total: float, stretch: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / total / stretch))


def test_steps(config: SettledStudent, batches: int) -> set[int]:
    """The numbers of steps after which the student is tested; an epoch has ``batches`` steps."""
    steps = config.training_steps
    if config.test_every is None:
        done = {-(-number * steps // config.evaluations) for number in range(1, config.evaluations + 1)}
    else:
        done = {*range(config.test_every * batches, steps, config.test_every * batches), steps}
    return {step for step in done if step > config.best_from * steps}
