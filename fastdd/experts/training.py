"""Train the experts that a folder lacks, in groups, and keep each epoch of each.

    w <- w - lr * grad_w mean cross-entropy(w; augmented batch)        plain SGD on batches of the real images

Order and augmentation of an epoch, and the initial weights, are functions of (seed, expert, epoch) alone. So
experts that are trained together get the weights that each would get alone, to rounding. The processes of
torchrun take groups from one queue. A group that was killed goes on, with the same bytes, after the last
epoch that all of its experts have on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import siamese_augment

from ..config import Siamese
from ..data.loading.augment import siamese_rows
from ..errors import InputError
from ..models.build import build
from ..models.flat import FlatNetwork, flattened
from ..runtime.distributed import barrier, claims, from_main, is_main
from ..runtime.events import send
from ..runtime.precision import autocast, float32_products
from ..runtime.progress import Bar, progress
from ..runtime.seeds import derive, generator
from .store import ExpertPlan, Trajectory, expert_file, partial_file, settle_plan

TEST_IMAGES = 1000
"""Most images of the test split on which an expert is tested after each epoch: the accuracy is only shown."""


@dataclass(frozen=True)
class ExpertData:
    """The real images that experts learn from and are tested on, in memory.

    Attributes:
        images: uint8 [N, C, H, W] to learn from.
        labels: int64 [N].
        test_images: uint8 [M, C, H, W] to test on.
        test_labels: int64 [M].
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def batch_draws(config: Siamese, count: int, size: Sequence[int], random: torch.Generator) -> Tensor:
    """The augmentation of a training batch: one operation for all images, with parameters an image.

    Args:
        config: the operations; with ``together`` each image has all of them.

    Returns:
        Rows of ``siamese_augment``, float64 [count, 13]; [0, 13] without operations.
    """
    if config.together:
        return siamese_rows(count, size, always=config.operations, draw=random)
    return siamese_rows(count, size, one_of=config.operations, draw=random)


class Training:
    """The training of experts of one plan on one device."""

    def __init__(self, plan: ExpertPlan, network: FlatNetwork, real: ExpertData) -> None:
        self.plan, self.network, self.real = plan, network, real
        self.device = real.images.device
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (plan.mean, plan.std)
        )
        few = torch.linspace(0, len(real.test_images) - 1, min(TEST_IMAGES, len(real.test_images))).long()
        self.test_images, self.test_labels = (
            tensor[few.to(self.device)] for tensor in (real.test_images, real.test_labels)
        )

    def initial(self, experts: Sequence[int]) -> Tensor:
        """The random weights that experts start from, [experts, P]."""
        plan, drawn = self.plan, []
        with torch.random.fork_rng(devices=[]):
            for expert in experts:
                torch.manual_seed(derive(plan.seed, "expert", expert, "weights"))
                drawn.append(flattened(build(plan.network, plan.classes, plan.shape[0])))
        return torch.stack(drawn).to(self.device)

    def epoch(self, weights: Tensor, experts: Sequence[int], epoch: int, bar: Bar) -> Tensor:
        """The weights [experts, P] after one more epoch; the first is 1."""
        orders = [
            torch.randperm(len(self.real.images), generator=self._generator(expert, "order", epoch))
            for expert in experts
        ]
        random = [self._generator(expert, "siamese", epoch) for expert in experts]
        loss = torch.zeros(len(experts), device=self.device)
        for rows in zip(*(order.split(self.plan.batch) for order in orders), strict=True):
            batches = [self._batch(part, draw) for part, draw in zip(rows, random, strict=True)]
            images, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
            step, weights = self._step(weights, images, labels)
            loss += step * len(rows[0])
            bar.advance(labels.numel())
        losses, finite = (loss / len(self.real.images)).tolist(), weights.isfinite().all(1).tolist()
        for expert, mean, is_finite in zip(experts, losses, finite, strict=True):
            if not math.isfinite(mean):
                raise self._diverged(expert, epoch, f"its mean loss is {mean}")
            if not is_finite:
                raise self._diverged(expert, epoch, "its weights hold NaN or infinite values")
        return weights

    def _diverged(self, expert: int, epoch: int, how: str) -> InputError:
        return InputError(
            f"expert {expert} diverged in epoch {epoch}: {how}; lower experts.lr = {self.plan.lr:g}"
        )

    def _generator(self, expert: int, purpose: Literal["order", "siamese"], epoch: int) -> torch.Generator:
        return generator(self.plan.seed, "expert", expert, purpose, epoch)

    def _batch(self, rows: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Normalized and augmented images of a step, and their labels: one operation for all of them."""
        rows = rows.to(self.device)
        images = self._normalized(self.real.images[rows])
        drawn = batch_draws(self.plan.siamese, len(rows), images.shape[2:], random)
        if len(drawn):
            images = siamese_augment(images, drawn)
        return images, self.real.labels[rows]

    def _normalized(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def _step(self, weights: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of SGD.

        Args:
            weights: [experts, P]. images: [experts, B, C, H, W]. labels: [experts, B].

        Returns:
            The mean loss of each expert before the step [experts], and the weights after it.
        """
        weights = weights.requires_grad_()
        with autocast(self.device, self.plan.precision):
            logits = self._logits(weights, images)
        losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        losses = losses.view_as(labels).mean(1)
        (gradient,) = torch.autograd.grad(losses.sum(), weights)
        return losses.detach(), weights.detach() - self.plan.lr * gradient

    def _logits(self, weights: Tensor, images: Tensor) -> Tensor:
        """[experts, B, classes]; a single expert goes without vmap, which is faster."""
        if len(weights) == 1:
            return self.network(weights[0], images[0])[None]
        logits: Tensor = torch.vmap(self.network)(weights, images)
        return logits

    @torch.no_grad()
    def accuracy(self, weights: Tensor, experts: Sequence[int], epoch: int) -> list[float]:
        """Top-1 accuracy in [0, 1] of each expert after an epoch, on at most TEST_IMAGES test images."""
        return [self._accuracy_of(row, expert, epoch) for row, expert in zip(weights, experts, strict=True)]

    def _accuracy_of(self, weights: Tensor, expert: int, epoch: int) -> float:
        parts = self.test_images.split(self.plan.batch)
        logits = torch.cat([self.network(weights, self._normalized(part)) for part in parts])
        largest, answers = logits.max(1)
        if not largest.isfinite().all():
            raise self._diverged(expert, epoch, "its logits are NaN or infinite")
        return (answers == self.test_labels).float().mean().item()


def build_experts(
    folder: Path, plan: ExpertPlan, *, network: FlatNetwork, group: int, real: Callable[[], ExpertData]
) -> int:
    """Train what a folder lacks; nothing is read where it lacks nothing.

    Args:
        network: their network, on the device where they are trained.
        real: gives the real images, on that device.

    Returns:
        The images that this process trained on.

    Raises:
        InputError: the folder holds experts of another plan or a damaged file, or an expert diverges.
    """
    if is_main():
        settle_plan(folder, plan)
    barrier()
    groups = [range(first, min(first + group, plan.experts)) for first in range(0, plan.experts, group)]
    left = from_main(
        lambda: [each for each in groups if not all(expert_file(folder, k).is_file() for k in each)]
    )
    if not left:
        return 0
    training = Training(plan, network, real())
    images = len(training.real.images)
    total = sum(len(each) * (plan.epochs - _done(folder, each)) for each in left) * images
    trained = 0
    with progress("experts", total) as bar, float32_products(plan.precision):
        for number in claims("experts", len(left)):
            trained += _train_group(folder, left[number], training, bar) * images
    barrier()
    return trained


def _done(folder: Path, experts: range) -> int:
    """The last epoch that all experts of a group have on disk."""
    return max(0, min(len(Trajectory.open(folder, k).weights) for k in experts) - 1)


def _train_group(folder: Path, experts: range, training: Training, bar: Bar) -> int:
    """Train a group to its end; returns the epochs that were done, summed over its experts."""
    lacking = [k for k in experts if not expert_file(folder, k).is_file()]
    known = [Trajectory.open(folder, k) for k in experts]
    if not all(each.weights for each in known):
        known = [Trajectory([], []) for _ in experts]
        initial = training.initial(experts)
        for each, row, accuracy in zip(known, initial, training.accuracy(initial, experts, 0), strict=True):
            each.add(row, accuracy)
    done = min(len(each.weights) for each in known) - 1
    known = [Trajectory(each.weights[: done + 1], each.accuracy[: done + 1]) for each in known]
    weights = torch.stack([each.weights[-1] for each in known]).to(training.device)
    for epoch in range(done + 1, training.plan.epochs + 1):
        weights = training.epoch(weights, experts, epoch, bar)
        reached = training.accuracy(weights, experts, epoch)
        for k, each, row, accuracy in zip(experts, known, weights, reached, strict=True):
            each.add(row, accuracy)
            if k in lacking:
                each.save(partial_file(folder, k))
        mean = sum(each.accuracy[-1] for each in known) / len(known)
        whose = f"expert {experts[0]}" if len(experts) == 1 else f"experts {experts[0]} to {experts[-1]}"
        send("accuracy", step=epoch, values={f"accuracy of {whose}": mean})
        bar.line(f"{whose}, epoch {epoch}/{training.plan.epochs}: test {mean:.2%}")
    for k in lacking:
        partial_file(folder, k).replace(expert_file(folder, k))
    return (training.plan.epochs - done) * len(experts)
