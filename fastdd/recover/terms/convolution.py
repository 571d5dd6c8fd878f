"""G-VBSM's statistics of all convolutions and BatchNorms, matched with a memory of the steps before (and EDC's).

Of the input of every BatchNorm2d and Conv2d, in module order: mean m and variance v of each channel over the batch and
all pixels, and of a convolution's patches likewise (see teachers/patch_moments.py). Each such vector u is matched as

    EMA <- a EMA + (1 - a) stop(u)        s = EMA + u - stop(u)        loss = sum_layers w ||target - s||_2

so s has the value of the running average and the gradient of the present step. A convolution is left out of a step
with a probability, and remembers nothing of it; each batch draws for itself, before the first step. EDC adds the
distance to the mean statistics of single images of the batch's classes.

The memory is a tensor among a unit's targets, updated in place inside the step, which still compiles as one graph. It
starts anew with each unit, and each batch and teacher has its own. The released memory lives on from one batch to the
next, which is not offered, for it would make units wait for one another; with one batch in all, as for 10 images a
class of CIFAR-10, that is no difference. It starts at 0, where a test for the type int misses a float: ``start``.

Cost: all layers' numbers are one row of D (9,194 for a ResNet-18 at 32 pixels), so a step adds a few operations on
[batches, D] and one norm a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...bank import Bank, over_all
from ...config import Convolution
from ...runtime.seeds import generator
from ...teachers import Features, Taps, hooked_layers
from ..plan import Unit
from .base import Shape, Values

DRAWS = 1000  # choices of layers a batch, used round and round


class Memory(NamedTuple):
    """What a unit carries from step to step."""

    average: Tensor
    """[2, batches, D]: running average of means and variances"""
    begun: Tensor
    """bool [batches, layers]: false where the average has no value yet and takes the first as it is"""
    chosen: Tensor
    """bool [DRAWS, batches, layers]: layers that take part in a step"""
    step: Tensor
    """int64 [1]"""


class ConvolutionTerm:
    """The statistics of a batch against those of the real images."""

    def __init__(self, config: Convolution, shape: Shape, taps: Taps, bank: Bank, seed: int) -> None:
        self.config, self.shape, self.bank, self.seed = config, shape, bank, seed
        self.layers = hooked_layers(taps.network)
        self.device = next(taps.parameters()).device
        parts, shifts, self.widths, owners = [], [], [], []
        for i, layer in enumerate(self.layers):
            for mean, var in self._real(taps, layer):
                parts.append(torch.stack((mean, var)))
                shifts.append(mean if layer in taps.running else torch.zeros_like(mean))
                self.widths.append(len(mean))
                owners.append(i)
        self.real = torch.cat(parts, dim=1)[:, None]
        self.shift = torch.cat(shifts)
        self.owners = torch.tensor(owners, device=self.device)
        self.columns = self.owners.repeat_interleave(torch.tensor(self.widths, device=self.device))
        factors = [config.first, *[1.0] * (len(self.layers) - 1)]
        self.factors = config.weight * torch.tensor(factors, device=self.device)[self.owners]
        self.of_convolutions = torch.tensor(
            [layer.startswith("conv.") for layer in self.layers], device=self.device
        )

    def _real(self, taps: Taps, layer: str) -> list[tuple[Tensor, Tensor]]:
        """(mean, variance) over all classes of the layer's channels and, for a convolution, of its patches."""
        if layer in taps.running:
            return [taps.running[layer]]
        bank, every, pairs = self.bank, range(len(self.bank)), []
        for kind in ("image", "patch"):
            spread = bank.spread(layer, kind, every, self.config.patch)
            mean, var = over_all(spread, bank.counts, self.config.real_batch)
            pairs.append((mean.to(self.device), var.to(self.device)))
        return pairs

    def targets(self, unit: Unit) -> tuple[Tensor | None, Memory]:
        """The statistics of each batch's category [2, batches, D], and an empty memory."""
        batches, layers = unit.shape[0], len(self.layers)
        chosen = torch.stack(
            [self._chosen(batch.classes[0], batch.slots[0]) for batch in unit.batches], dim=1
        )
        memory = Memory(
            self.real.new_zeros(2, batches, self.real.shape[2]),
            torch.full((batches, layers), self.config.start == "zero", device=self.device),
            chosen.to(self.device),
            torch.zeros(1, dtype=torch.int64, device=self.device),
        )
        return self._category(unit) if self.config.category else None, memory

    def _chosen(self, c: int, slot: int) -> Tensor:
        random = generator(self.seed, "drop", self.bank.manifest["teacher"], c, slot)
        kept = torch.rand(DRAWS, len(self.layers), generator=random) >= self.config.drop
        return kept | ~self.of_convolutions.cpu()

    def _category(self, unit: Unit) -> Tensor:
        parts = []
        for layer in self.layers:
            for kind in ("image", "patch") if layer.startswith("conv.") else ("image",):
                mean, within, _ = self.bank.spread(layer, kind, unit.groups, self.config.patch)
                swapped = self.config.swap and kind == "patch"
                parts.append(torch.stack((within, mean) if swapped else (mean, within)))
        return torch.cat(parts, dim=2).unflatten(1, (unit.shape[0], -1)).mean(2).to(self.device)

    def __call__(self, features: Features, images: Tensor, targets: tuple[Tensor | None, Memory]) -> Values:
        category, memory = targets
        present = self._present(features)
        chosen = memory.chosen.index_select(0, memory.step % DRAWS)[0]
        with torch.no_grad():
            momentum = torch.where(chosen, self.config.momentum * memory.begun, 1.0)[:, self.columns]
            moved = present.lerp(memory.average, momentum.expand_as(present))
            memory.average.copy_(moved)
            memory.begun.logical_or_(chosen)
            memory.step.add_(1)
        matched = moved + (present - present.detach())
        part = self.config.category
        distances = (1 - part) * self._distances(matched, self.real)
        if category is not None:
            distances = distances + part * self._distances(matched, category)
        values = (distances * self.factors * chosen[:, self.owners]).sum((0, 1))
        of_convolutions = self.of_convolutions[self.owners]
        return {"bn": (values * ~of_convolutions).sum(), "conv": (values * of_convolutions).sum()}

    def _present(self, features: Features) -> Tensor:
        """Means and variances of each batch, [2, batches, D]."""
        rows = []
        for layer in self.layers:
            rows.append(features.moments[layer])
            if layer in features.patches:
                rows.append(features.patches[layer])
        mean, mean_square = (
            torch.cat([row[i] for row in rows], dim=1).unflatten(0, (self.shape[0], -1)).mean(1)
            for i in (0, 1)
        )
        return torch.stack((mean, mean_square - (mean - self.shift).square()))

    def _distances(self, matched: Tensor, target: Tensor) -> Tensor:
        """Norm of each vector's difference, [2, batches, vectors]."""
        return torch.stack([part.norm(dim=2) for part in (target - matched).split(self.widths, dim=2)], dim=2)
