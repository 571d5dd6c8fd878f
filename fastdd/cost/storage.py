"""Bytes on disk of what a run makes, counted from the shapes of its files."""

from __future__ import annotations

import math

import torch

from ..config import CONTROL
from ..config import Bank as BankConfig
from ..teachers import Features
from .expert_works import expert_bytes
from .fake_device import fake_device
from .subject import Subject
from .works import label_plan

CPU = torch.device("cpu")


def storage(subject: Subject) -> dict[str, int]:
    """What is stored -> its bytes, without the headers of files.

    Images count as raw pixels, which their PNG files come close to where images were optimized.
    """
    found: dict[str, int] = {}
    for name in subject.working_teachers:
        suffix = f" of {name}" if name else ""
        with fake_device("cpu"):
            teacher = subject.teacher(name, CPU)
            kept = subject.kept(name, teacher.network)
            black = torch.zeros(1, *subject.sizes.shape, dtype=torch.uint8)
            features = kept.taps(teacher.normalize(black))
            found[f"teacher{suffix}"] = sum(
                tensor.numel() * tensor.element_size() for tensor in teacher.network.state_dict().values()
            )
            widths = {layer: features.pooled[layer].shape[1] for layer in kept.pooled}
            others = _of_layers(features, tuple(kept.class_bn), tuple(kept.single))
        found[f"bank{suffix}"] = _bank(subject, kept.config, widths, others, features.embedding.shape[1])
    if experts := expert_bytes(subject):
        found["experts"] = experts
    for arm in subject.arms:
        if arm != CONTROL:
            files = subject.recipe.ipc * subject.sizes.classes
            found[f"images of {arm}"] = files * math.prod(subject.sizes.shape)
    return found | _labels(subject)


def _of_layers(features: Features, class_bn: tuple[str, ...], single: tuple[str, ...]) -> int:
    """Numbers of a class beside means and covariances: BatchNorm statistics, and those of single images."""
    numbers = sum(2 * features.moments[layer][0].shape[1] for layer in class_bn)
    for layer in single:
        numbers += 3 * features.moments[layer][0].shape[1]
        if layer.startswith("conv."):
            numbers += 3 * features.patches[layer][0].shape[1]
    return numbers


def _bank(subject: Subject, config: BankConfig, widths: dict[str, int], others: int, embedding: int) -> int:
    sizes = subject.sizes
    number = 2 if config.dtype == "bf16" else 4
    total = 4 * others * sizes.classes
    for width in widths.values():
        rank = min(config.rank, width)
        entries = {"full": width**2, "packed": width * (width + 1) // 2, "lowrank": width * (rank + 1)}
        total += sizes.classes * (4 * width + number * entries[config.form])
    each = -(-sizes.train // sizes.classes)
    kept = each if config.embeddings == "all" else min(config.embeddings, each)
    return total + 2 * embedding * kept * sizes.classes


def _labels(subject: Subject) -> dict[str, int]:
    found = {}
    for student, config in subject.students.items():
        if config.labels != "stored":
            continue
        for arm in subject.arms:
            if not subject.recipe.learns(student, arm):
                continue
            name = f"labels of {arm}" + (f" for {student}" if student else "")
            if subject.recipe.labels.per == "view":
                found[name] = label_plan(subject, arm, student).bytes
            else:
                images = subject.seen(arm) * subject.sizes.classes
                found[f"labels of {arm}"] = 2 * images * subject.sizes.classes
    return found
