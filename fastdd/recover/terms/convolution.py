"""G-VBSM's terms: statistics of all convolutions and BatchNorms, also EDC's, and the spectrum of a class.

The input of every BatchNorm2d and Conv2d has a mean and a variance of each channel over the batch and all
pixels. A convolution's input has them of its patches too (teachers/patch_moments.py). Each such vector u is
matched as

    EMA <- a EMA + (1 - a) stop(u)        s = EMA + u - stop(u)        loss = sum_layers w ||target - s||_2

so s has the value of the running average and the gradient of the present step. In each step a convolution is
dropped with probability ``drop``: it adds no loss and its average stays. Each batch draws this for all steps
before the first. EDC adds the distance to the mean statistics of single images of the batch's classes.

The running averages (``Memory``) are tensors among a unit's targets, updated in place inside the step, which
still compiles as one graph. Each batch and each teacher has its own, which start anew with each unit, and go
on where a round of DELT begins. In the
released code they continue from one batch to the next. We do not offer that, because units would have to wait
for one another; with one batch in all, as for 10 images a class of CIFAR-10, both are the same. The released
averages start at 0, because a test for the type int misses a float; ``start`` decides.

Cost: the statistics of all layers are one row of D numbers (9,194 for a ResNet-18 at 32 pixels), so a step
adds a few operations on [batches, D] and one norm a layer.

The spectrum of the Gram matrix of a class's images is flattened:

    X [s, 3 * 32 * 32]: the augmented images of a class in a batch, pooled to 32 x 32        l = eigenvalues
    of X Xt
    KL(stop[softmax(l / tau)] || softmax(l))        summed over the classes of the unit

X Xt is symmetric, so the gradient of its eigenvalues is a product with the eigenvectors, which is finite for
equal eigenvalues too. A single image gives 0.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastdd_kernels.product import matmul

from ...bank import over_all
from ...config import All, Config, Count
from ...config.base import BelowOne, NotNegative, Positive, Probability
from ...runtime.seeds import generator
from ...teachers import Features, hooked_layers
from ..plan import Unit
from .base import Context, Needs, Term, Values, by_class, register_term

DRAWS = 1000
"""draws of the dropped layers for each batch; step t uses draw t mod DRAWS"""


class Convolution(Config):
    """G-VBSM: sum of ||var - s_var||_2 + ||mean - s_mean||_2 over the inputs of BatchNorm2d and Conv2d.

    Patches of the inputs of Conv2d layers are matched too. s is a running average over the steps with the
    gradient of the present step.
    """

    weight: NotNegative = 0.01
    """factor of the sum"""
    first: NotNegative = 10.0
    """factor on the loss of the first layer, the convolution whose input is the images"""
    patch: Count = 4
    """side of the patches in pixels (G-VBSM for images of 224 pixels: 16)"""
    drop: BelowOne = 0.4
    """probability that a convolution takes no part in a step"""
    momentum: BelowOne = 0.8
    """decay of the running average; 0: the statistics of the present step"""
    start: Literal["zero", "first"] = "zero"
    """initial value of the running average. zero: 0, as in the released code; first: the statistics of its
    first step"""
    real_batch: Count | All = 64
    """size of the mini-batches whose mean variance is the target; all: the target is the variance over all
    images"""
    category: Probability = 0.0
    """share of the loss that compares with the mean statistics of single images of the batch's classes (EDC:
    0.5)"""
    swap: bool = False
    """true: reproduce a bug of EDC's release, which swaps mean and variance of these classes' patch
    statistics"""


class Memory(NamedTuple):
    """What a unit carries from step to step; the step updates it in place."""

    average: Tensor
    """running average of means and variances, [2, batches, D]"""
    begun: Tensor
    """bool [batches, layers]; false: the average has no value yet and takes the first one as it is"""
    chosen: Tensor
    """bool [DRAWS, batches, layers]; true: the layer takes part in the step"""
    step: Tensor
    """number of the next step, int64 [1]"""


Targets = tuple[Tensor | None, Memory]
"""mean statistics of single images of each batch's classes, [2, batches, D] (None: not compared with), and
the memory"""


class ConvolutionTerm(Term[Convolution, Targets]):
    """The distance of the statistics of each batch from those of the real images."""

    configuration = Convolution
    labels: ClassVar = {"bn": "BatchNorm statistics", "conv": "convolution statistics"}
    position = 50
    excludes: ClassVar = {"bn": "conv matches the BatchNorm layers too"}
    one_size = True

    def __init__(self, config: Convolution, context: Context) -> None:
        super().__init__(config, context)
        self.layers = hooked_layers(context.network)
        parts, shifts, self.widths, owners = [], [], [], []
        for i, layer in enumerate(self.layers):
            for mean, var in self._real(layer):
                parts.append(torch.stack((mean, var)))
                shifts.append(mean if layer in context.taps.running else torch.zeros_like(mean))
                self.widths.append(len(mean))
                owners.append(i)
        self.real_statistics = torch.cat(parts, dim=1)[:, None]
        self.shift = torch.cat(shifts)
        self.owners = torch.tensor(owners, device=self.device)
        widths = torch.tensor(self.widths, device=self.device)
        self.columns = self.owners.repeat_interleave(widths, output_size=sum(self.widths))
        factors = [config.first, *[1.0] * (len(self.layers) - 1)]
        self.factors = config.weight * torch.tensor(factors, device=self.device)[self.owners]
        self.of_convolutions = torch.tensor(
            [layer.startswith("conv.") for layer in self.layers], device=self.device
        )

    @classmethod
    def needs(cls, config: Convolution, network: nn.Module) -> Needs:
        return Needs(moments=tuple(hooked_layers(network)), patch=config.patch)

    def _real(self, layer: str) -> list[tuple[Tensor, Tensor]]:
        """(mean, variance) over all classes: of a layer's channels and, in a convolution, of its patches."""
        if layer in self.context.taps.running:
            return [self.context.taps.running[layer]]
        bank = self.context.bank
        every, pairs = range(len(bank)), []
        for kind in ("image", "patch"):
            spread = bank.spread(layer, kind, every, self.config.patch)
            mean, var = over_all(spread, bank.counts, self.config.real_batch)
            pairs.append((mean.to(self.device), var.to(self.device)))
        return pairs

    def targets(self, unit: Unit) -> Targets:
        """The mean statistics of single images of each batch's classes, and a memory of no steps."""
        batches, layers = unit.shape[0], len(self.layers)
        chosen = torch.stack(
            [self._chosen(batch.classes[0], batch.slots[0]) for batch in unit.batches], dim=1
        )
        memory = Memory(
            self.real_statistics.new_zeros(2, batches, self.real_statistics.shape[2]),
            torch.full((batches, layers), self.config.start == "zero", device=self.device),
            chosen.to(self.device),
            torch.zeros(1, dtype=torch.int64, device=self.device),
        )
        return self._category(unit) if self.config.category else None, memory

    def continued(self, targets: Targets, before: Targets) -> Targets:
        """The averages go on, and take in the images that join."""
        return targets[0], before[1]

    def _chosen(self, c: int, slot: int) -> Tensor:
        teacher = self.context.bank.manifest["teacher"]
        random = generator(self.context.seed, "drop", teacher, c, slot)
        kept = torch.rand(DRAWS, len(self.layers), generator=random) >= self.config.drop
        return kept | ~self.of_convolutions.cpu()

    def _category(self, unit: Unit) -> Tensor:
        parts = []
        for layer in self.layers:
            for kind in ("image", "patch") if layer.startswith("conv.") else ("image",):
                mean, within, _ = self.context.bank.spread(layer, kind, unit.groups, self.config.patch)
                swapped = self.config.swap and kind == "patch"
                parts.append(torch.stack((within, mean) if swapped else (mean, within)))
        return torch.cat(parts, dim=2).unflatten(1, (unit.shape[0], -1)).mean(2).to(self.device)

    def __call__(self, features: Features, images: Tensor, targets: Targets) -> Values:
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
        distances = (1 - part) * self._distances(matched, self.real_statistics)
        if category is not None:
            distances = distances + part * self._distances(matched, category)
        values = (distances * self.factors * chosen[:, self.owners]).sum((0, 1))
        of_convolutions = self.of_convolutions[self.owners]
        return {"bn": (values * ~of_convolutions).sum(), "conv": (values * of_convolutions).sum()}

    def _present(self, features: Features) -> Tensor:
        """The present step's means and variances of each batch, [2, batches, D]."""
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
        """The norms of the differences of all vectors, [2, batches, vectors]."""
        differences = (target - matched).split(self.widths, dim=2)
        return torch.stack([difference.norm(dim=2) for difference in differences], dim=2)


register_term("conv", ConvolutionTerm)


SIDE = 32
"""height and width in pixels that images are pooled to"""


class Spectrum(Config):
    """G-VBSM's diversity of a class: KL(stop[softmax(l / tau)] || softmax(l)), l the eigenvalues of X Xt."""

    weight: NotNegative = 1.0
    """factor of the divergence"""
    tau: Positive = 4.0
    """temperature of the flattened spectrum, which is the target"""


class SpectrumTerm(Term[Spectrum, None]):
    """The diversity of each class in each batch; it has no targets."""

    configuration = Spectrum
    labels: ClassVar = {"nuc": "diversity of the spectrum"}
    position = 60
    waits = True  # torch looks whether the eigenvalues were found

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        rows = by_class(pooled(images).flatten(1), self.shape)
        eigenvalues = torch.linalg.eigvalsh(matmul(rows, rows.mT))
        wanted = (eigenvalues.detach() / self.config.tau).log_softmax(1)
        divergence = (wanted.exp() * (wanted - eigenvalues.log_softmax(1))).sum()
        return {"nuc": self.config.weight * divergence}


def pooled(images: Tensor) -> Tensor:
    """``adaptive_avg_pool2d`` of images to 32 x 32, as matrix products, so the gradient is deterministic."""
    if images.shape[2:] == (SIDE, SIDE):
        return images
    rows, columns = (_pooling(side, images) for side in images.shape[2:])
    return rows @ images @ columns.T


def _pooling(side: int, images: Tensor) -> Tensor:
    """The matrix [32, side] whose row i averages pixels floor(i side / 32) up to ceil((i + 1) side / 32)."""
    i, pixel = torch.arange(SIDE, device=images.device)[:, None], torch.arange(side, device=images.device)
    inside = (pixel >= i * side // SIDE) & (pixel < -((-(i + 1) * side) // SIDE))
    return (inside / inside.sum(1, keepdim=True)).to(images.dtype)


register_term("nuc", SpectrumTerm)
