"""The loss of a batch of students under a protocol, and the temperature of a step.

Of soft labels it is ``fastdd.losses.distillation``. Of hard labels, and in a hard stage of ``label_stages``
(HALD), it is the cross-entropy with the mixed classes, of which ``hard_smoothing`` is spread over all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Student
from ..losses import distillation
from ..models.build import as_input
from ..runtime.precision import autocast
from .batches import StudentBatch


def scheduled_temperature(config: Student, done: float, total: float) -> float:
    """T after ``done`` of ``total`` steps or epochs; ``temperature`` where there is no schedule.

    The first step or epoch is number 1, as in LPQLD's released code.
    """
    schedule, number = config.temperature_schedule, done + 1
    if schedule is None:
        return config.temperature
    if schedule.kind == "step":
        falls = math.floor(number / (schedule.every * total) + 1e-9)
        return max(schedule.low, config.temperature * schedule.factor**falls)
    reach = config.temperature - schedule.low
    return schedule.low + reach * (1 + math.cos(math.pi * min(1.0, number / total))) / 2


def add_gradient(
    loss_of: Callable[..., Tensor],
    network: nn.Module,
    labeller: nn.Module,
    batch: StudentBatch,
    *,
    config: Student,
    temperature: Tensor | None = None,
) -> Tensor:
    """Add the gradient of a batch's loss (``student_loss``, perhaps compiled) to the parameters'; returns the
    loss.

    The batch goes forward and backward in ``config.accumulate`` parts.
    """
    parts, total = batch.parts(config.accumulate), torch.zeros((), device=batch.images.device)
    for part in parts:
        loss = loss_of(
            network,
            labeller,
            part.images,
            part.targets,
            config=config,
            hard_labels=part.hard_labels,
            class_shares=part.class_shares,
            temperature=temperature,
        )
        if len(parts) > 1:
            loss = loss * (len(part.images) / len(batch.images))
        loss.backward()
        total += loss.detach()
    return total


def student_loss(
    network: nn.Module,
    labeller: nn.Module,
    images: Tensor,
    targets: Tensor | None,
    *,
    config: Student,
    hard_labels: Tensor | None = None,
    class_shares: Tensor | None = None,
    temperature: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, a float32 scalar.

    Args:
        images, targets, hard_labels, class_shares: as in StudentBatch.
        temperature: T of this step, a scalar tensor, so that a schedule compiles nothing anew; None:
            ``config.temperature``.
    """
    with autocast(images.device, config.precision):
        if targets is None:
            with torch.no_grad():
                targets = labeller(as_input(images, labeller))
        out = network(as_input(images, network))
    if config.labels == "hard":
        out, smoothing = out.float(), config.hard_smoothing
        loss = F.cross_entropy(out, targets.float(), label_smoothing=smoothing)
        if not config.hard_weight or hard_labels is None:
            return loss
        return loss + config.hard_weight * F.cross_entropy(out, hard_labels, label_smoothing=smoothing)
    return distillation(
        out,
        targets,
        loss=config.loss,
        temperature=config.temperature if temperature is None else temperature,
        student_temperature=config.student_temperature,
        t_squared=config.t_squared,
        hard_weight=config.hard_weight,
        hard_labels=hard_labels,
        hard_smoothing=config.hard_smoothing,
        hard_part=config.hard_part,
        class_shares=class_shares,
    )
