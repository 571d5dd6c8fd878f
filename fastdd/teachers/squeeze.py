"""Squeeze: train the teacher on the real images.

SGD with Nesterov momentum and a one-cycle learning rate on a resident set, augmented in batches; the
draws depend on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import recipe
from ..data.augment import shift_and_flip
from ..errors import InputError
from ..precision import autocast
from ..progress import progress
from .load import Card, Teacher
from .networks import build

EVALUATION_BATCH = 500


@torch.no_grad()
def accuracy(
    network: Callable[[Tensor], Tensor], normalise: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> float:
    """Top-1 accuracy of a classifier on uint8 images [N, C, H, W], as a fraction."""
    right = torch.zeros((), dtype=torch.long, device=images.device)
    for batch, truth in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        right += (network(normalise(batch)).argmax(1) == truth).sum()
    return right.item() / len(images)


def squeeze(
    config: recipe.Teacher,
    classes: tuple[str, ...],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    seed: int,
) -> Teacher:
    """Train a teacher from scratch.

    Args:
        config: network, normalisation and training settings.
        classes: class names in order.
        train: uint8 images [N, C, H, W] and labels [N], on the device to train on.
        test: the same of the held-out split; its accuracy goes on the card.
        seed: of initial weights, order and augmentation.

    Raises:
        InputError: the accuracy stays below ``teacher.minimum_accuracy``.
    """
    images, labels = train
    torch.manual_seed(seed)
    network = build(config.network, len(classes), images.shape[1]).to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    card = Card(config.network, classes, images.shape[1], config.mean, config.std)
    teacher = Teacher(network, card)
    batches = max(1, len(images) // config.batch)
    optimiser = torch.optim.SGD(
        network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.momentum > 0
    )
    steps = config.epochs * batches
    # a warm-up of exactly one step would divide by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.lr, total_steps=steps, pct_start=0.2 if steps > 5 else 0.3
    )
    generator = torch.Generator().manual_seed(seed)
    with progress("squeeze", config.epochs * batches * config.batch) as bar:
        for _ in range(config.epochs):
            order = torch.randperm(len(images), generator=generator).to(images.device)
            for index in order[: batches * config.batch].view(batches, -1):
                batch = shift_and_flip(teacher.normalise(images[index]), config.pad, config.flip, generator)
                with autocast(images.device, config.precision):
                    logits = network(batch)
                loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=config.label_smoothing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.advance(len(index))
    network.eval().requires_grad_(False)
    reached = accuracy(network, teacher.normalise, *test)
    if reached < config.minimum_accuracy:
        raise InputError(
            f"squeeze reached {reached:.1%} test accuracy, expected at least teacher.minimum_accuracy = "
            f"{config.minimum_accuracy:.1%}; train longer (teacher.epochs), or lower the bar"
        )
    return Teacher(network, Card(**{**card.__dict__, "accuracy": reached}))
