"""Students: what a distilled set is worth is what networks make of it.

A fresh network learns the teacher's soft labels (Hinton et al., 2015) of mixed, augmented images,

    loss = KL(softmax(teacher / T) || softmax(student / T)),  mean over the batch, no factor T^2,

with AdamW and a cosine learning rate. Every set, the random real control included, gets the same protocol, and
its hash is printed beside the accuracies.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import recipe
from ..data.augment import shift_and_flip
from ..precision import autocast
from ..progress import Bar
from ..recover.loop import cosine
from ..seeds import derive, generator
from ..teachers import Teacher, accuracy, build
from .mix import mix


@dataclass(frozen=True)
class Result:
    """Test accuracy of one student, as fractions."""

    last: float
    best: float
    curve: tuple[tuple[int, float], ...]
    """(steps done, accuracy) of each test pass"""


def protocol_text(config: recipe.Student) -> str:
    """The protocol in a line."""
    mixing = "no mixing" if config.mix == "none" else f"{config.mix}({config.mix_alpha:g})"
    return (
        f"{config.network}, {config.steps} steps of {config.batch} images, AdamW lr {config.lr:g} "
        f"wd {config.weight_decay:g}, cosine, shift {config.pad} px, flip {config.flip:g}, {mixing}, "
        f"{config.labels} labels of the teacher in {config.teacher_mode} mode, KL at T = {config.temperature:g}, "
        f"{config.precision}"
    )


def protocol_hash(config: recipe.Student) -> str:
    """Eight hex digits that change with any part of the protocol but the number of seeds."""
    values = config.model_dump(mode="json", exclude={"seeds"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def train_student(
    config: recipe.Student,
    teacher: Teacher,
    images: Tensor,
    logits: Tensor | None,
    test: tuple[Tensor, Tensor],
    seed: int,
    bar: Bar,
) -> Result:
    """Train and test one student.

    Args:
        images: uint8 [N, C, H, W], on the device to train on.
        logits: stored soft labels [N, classes] for ``labels: stored``, else None.
        test: uint8 images and labels of the real test split.
        seed: of initial weights, order, augmentation and mixing.
    """
    device = images.device
    torch.manual_seed(derive(seed, "student"))  # also for dropout, whatever was trained before
    network = build(config.network, len(teacher.card.classes), images.shape[1])
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
    labeller = copy.deepcopy(teacher.network).train(config.teacher_mode == "train")
    draw = generator(seed, "batches")
    normalised = teacher.normalise(images)
    order: list[Tensor] = []
    curve: list[tuple[int, float]] = []
    for step in range(config.steps):
        optimiser.param_groups[0]["lr"] = cosine(config.lr, step, config.steps)
        if not order:
            order = list(torch.randperm(len(images), generator=draw).split(config.batch))
        index = order.pop(0).to(device)
        batch = shift_and_flip(normalised[index], config.pad, config.flip, draw)
        batch, targets = mix(batch, None if logits is None else logits[index], config.mix, config.mix_alpha, draw)
        loss = _distillation(network, labeller, batch, targets, config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.advance(len(index))
        if (step + 1) * config.evaluations // config.steps > step * config.evaluations // config.steps:
            curve.append((step + 1, _test(network, teacher, test, config)))
    return Result(curve[-1][1], max(value for _, value in curve), tuple(curve))


def _distillation(
    network: nn.Module, labeller: nn.Module, batch: Tensor, targets: Tensor | None, config: recipe.Student
) -> Tensor:
    with autocast(batch.device, config.precision):
        if targets is None:
            with torch.no_grad():
                targets = labeller(batch)
        out = network(batch)
    T = config.temperature
    return F.kl_div(F.log_softmax(out.float() / T, 1), F.softmax(targets.float() / T, 1), reduction="batchmean")


def _test(network: nn.Module, teacher: Teacher, test: tuple[Tensor, Tensor], config: recipe.Student) -> float:
    network.eval()
    with autocast(test[0].device, config.precision):
        reached = accuracy(network, teacher.normalise, *test)
    network.train()
    return reached
