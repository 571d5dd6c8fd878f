"""The learning rate as a function of how much of the training is done.

    cosine      lr (1 + cos(pi p / s)) / 2       p: part that is done; s: stretch, which with 2 ends at lr / 2
    cos2        the same up to p = 5/6, then (1 + cos(5 pi / (6 s))) / 2 (1 - p), a sixth of it and down to 0
    multistep   lr f^k                           k: milestones passed; f: milestone_factor

Warm-up comes before: on a line from ``warmup_start`` lr, and the schedule has what is left.
"""

from __future__ import annotations

import math

from ..config import Student


def learning_rate(config: Student, step: int, steps: int, batches: int) -> float:
    """The learning rate of a step.

    Args:
        config: with a number for ``lr``.
        step: 0 <= step < steps.
        batches: steps an epoch, for protocols that change it once an epoch.
    """
    assert config.lr != "by_network"  # settled
    if config.rate_per == "step":
        return config.lr * factor(config, step, steps)
    return config.lr * factor(config, step // batches, steps / batches)


def factor(config: Student, done: float, total: float) -> float:
    """Part of ``lr`` after ``done`` of ``total`` steps, or epochs."""
    top = config.warmup * total
    if done < top:
        return config.warmup_start + (1 - config.warmup_start) * done / top
    done, total = done - top, total - top
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "multistep":
        return config.milestone_factor ** sum(
            done >= part * total - 1e-9 * total for part in config.milestones
        )
    if config.schedule == "cos2" and 6 * done > 5 * total:
        return _cosine(5, 6, config.stretch) * (1 - done / total)
    return _cosine(done, total, config.stretch)


def _cosine(done: float, total: float, stretch: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / total / stretch))
