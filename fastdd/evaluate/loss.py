"""The loss of a batch of students, and the temperature of a step.

With logits s of the student and z of the teacher, T of the teacher's softmax and t of the student's (the same
unless ``student_temperature`` says otherwise), the mean over the images of

    kl        sum_c p_c log(p_c / q_c),  p = softmax(z / T), q = softmax(s / t);  times T^2 with ``t_squared``
    mse       mean_c (s_c - z_c)^2
    cosine    1 - cos(s, u),  u = z / |z| + g y / |y|   (GIFT, Shang et al., 2025; the released code's form)
    hard      cross-entropy with the mixed classes, of which ``hard_smoothing`` is spread over all classes

g is ``hard_part``, and y the mixed classes, of which ``hard_smoothing`` is spread over the other classes. The
gradient of kl is (q - p) / t. In a hard stage of ``label_stages`` (HALD) the loss is that of hard labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Student
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
        network: the student.
        labeller: the teacher's network.
        images, targets, hard_labels, class_shares: as in StudentBatch.
        config: the protocol.
        temperature: T of this step, a scalar tensor, so that a schedule compiles nothing anew; None:
            ``config.temperature``.
    """
    with autocast(images.device, config.precision):
        if targets is None:
            with torch.no_grad():
                targets = labeller(as_input(images, labeller))
        out = network(as_input(images, network))
    out, targets = out.float(), targets.float()
    if config.labels == "hard":
        loss = F.cross_entropy(out, targets, label_smoothing=config.hard_smoothing)
    elif config.loss == "kl":
        T = config.temperature if temperature is None else temperature
        own = T if config.student_temperature is None else config.student_temperature
        loss = F.kl_div(F.log_softmax(out / own, 1), F.softmax(targets / T, 1), reduction="batchmean")
        loss = loss * T**2 if config.t_squared else loss
    elif config.loss == "cosine":
        loss = 1 - F.cosine_similarity(out, _direction(targets, class_shares, config), dim=1).mean()
    else:
        loss = F.mse_loss(out, targets)
    if config.hard_weight and hard_labels is not None:
        smoothing = config.hard_smoothing
        loss = loss + config.hard_weight * F.cross_entropy(out, hard_labels, label_smoothing=smoothing)
    return loss


def _direction(logits: Tensor, shares: Tensor | None, config: Student) -> Tensor:
    """u of GIFT, float [B, C], from the teacher's logits and the shares of the classes in the images."""
    direction = F.normalize(logits, dim=1)
    if not config.hard_part or shares is None:
        return direction
    others = max(1, shares.shape[1] - 1)
    smoothed = shares * (1 - config.hard_smoothing) + (1 - shares) * (config.hard_smoothing / others)
    return direction + config.hard_part * F.normalize(smoothed, dim=1)
