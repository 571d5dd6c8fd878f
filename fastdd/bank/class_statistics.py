"""What the bank keeps of one class, made from the feature rows of its images once all have been seen.

Rows are kept, not sums: a class of n images costs n times the tapped channels (1,300 x 26,560 floats, 138 MB,
for all 53 BatchNorm inputs of a ResNet-50) while it is open, and then one matrix product a layer gives its
covariance, where adding batch by batch would give many small ones. It also makes the result independent of
how batches fell. A class too large for that is added up in parts of PART rows.

G-VBSM and EDC match statistics of single images. An image has a mean m_i and a variance v_i over its pixels
(or over a patch's pixels and channels). For each class and layer the bank keeps three vectors,

    mean = E m_i        within = E v_i        between = Var m_i        over the n images of the class

EDC's category statistics are (mean, within). The statistics over all classes follow from them: with the total
between-image variance S^2 = E between + Var mean over the classes, the variance over all pixels of all images
is E within + S^2. The released code averages the variances of J shuffled mini-batches of N images in all; the
mean of that over all orders is

    E within + S^2 (N - J) / (N - 1)

So nothing depends on the order of the images, and mini-batches of 64 lack 1 / 64 of the variance between
images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastdd_kernels import ClassGaussian, low_rank_covariance

from ..config import All
from ..config import Bank as BankConfig
from ..runtime.seeds import generator
from ..teachers import Features, Taps, batch_norm_layers, hooked_layers

PART = 4096  # rows held before they are added to the sums
FIRST = 512  # rows for which a buffer has room at first
MOMENTUM = 0.1  # LPLD's class-wise running statistics use that of a BatchNorm


@dataclass(frozen=True)
class Kept:
    """Which statistics a bank keeps of each class, and the taps that give them.

    Attributes:
        config: the forms of the statistics, and how many embeddings are kept.
        taps: the frozen teacher with taps in all of the layers below.
        pooled: tapped layers whose mean and covariance are kept.
        class_bn: BatchNorm layers whose mean and variance over the class are kept -> their running mean
            [channels].
        single: layers whose statistics of single images are kept -> the shift of the taps' mean squares
            [channels], None for 0. A layer ``conv.<i>`` also has statistics of patches.
        seed: seed of the choices of embeddings and of the orders of LPLD's mini-batches.
    """

    config: BankConfig
    taps: Taps
    pooled: Sequence[str]
    class_bn: Mapping[str, Tensor]
    single: Mapping[str, Tensor | None]
    seed: int

    @classmethod
    def of(cls, network: nn.Module, config: BankConfig, layers: Collection[str], *, seed: int) -> Kept:
        """What a recipe's bank keeps of a teacher.

        Args:
            network: the teacher without taps.
            config: forms of the statistics; its ``class_bn`` and ``patch`` add layers.
            layers: names of the layers whose mean and covariance are kept (see teachers/taps.py).

        Raises:
            InputError: the network lacks a layer.
        """
        batch_norms = batch_norm_layers(network) if config.class_bn != "none" else []
        hooked = hooked_layers(network) if config.patch else []
        tapped = {*layers, *batch_norms, *hooked}
        taps = Taps(network, tapped, moments=bool(batch_norms or hooked), patch=config.patch or 1)
        running_mean = {layer: mean for layer, (mean, _) in taps.running.items()}
        return cls(
            config,
            taps,
            pooled=[layer for layer in taps.layers if layer in set(layers)],
            class_bn={layer: running_mean[layer] for layer in batch_norms},
            single={layer: running_mean.get(layer) for layer in hooked},
            seed=seed,
        )


class OpenClass:
    """The images of one class seen so far: ``add`` them batch by batch, then ``close``.

    Rows stay on the device until the class is closed: a copy to the host would wait for the forward pass.
    """

    def __init__(self, kept: Kept, c: int) -> None:
        self.kept, self.config, self.c = kept, kept.config, c
        self.count = 0
        self.indices, self.embeddings = RowBuffer(), RowBuffer()
        self.pooled = {layer: RowBuffer() for layer in kept.pooled}
        self.moments = {layer: RowBuffer() for layer in kept.class_bn}  # [n, 2, channels]
        self.gaussians: dict[str, ClassGaussian] = {}
        self.images = ImageStatistics(kept.single)

    def add(self, features: Features, rows: slice | Tensor, indices: Tensor) -> None:
        """Take the rows of this class from a batch; indices [k] are the images' positions in the data set."""
        self.count += len(indices)
        self.indices.add(indices)
        if self.config.embeddings != 0:
            self.embeddings.add(features.embedding[rows].half())
        for layer, held in self.pooled.items():
            held.add(features.pooled[layer][rows])
            if held.count >= PART:
                self._add_up(layer, held)
        for layer, held in self.moments.items():
            mean, mean_square = features.moments[layer]
            held.add(torch.stack((mean[rows], mean_square[rows]), dim=1))
        self.images.add(features, rows)

    def _add_up(self, layer: str, held: RowBuffer) -> None:
        rows = held.all()
        if layer not in self.gaussians:
            self.gaussians[layer] = ClassGaussian(1, rows.shape[1], device=rows.device)
        self.gaussians[layer].update(rows, torch.zeros(len(rows), dtype=torch.long))
        held.clear()

    def close(self) -> dict[str, Tensor]:
        """The statistics of the class on the CPU, named and shaped as in a file of this class (store.py)."""
        order = self.indices.all().argsort()  # as in the data set, whatever the order of the stream
        statistics: dict[str, Tensor] = {}
        if self.embeddings.count:
            statistics["embeddings"] = self.embeddings.all().cpu()[order][self._choice()].contiguous()
        for layer, held in self.pooled.items():
            if held.count:
                self._add_up(layer, held)
            gaussian = self.gaussians.pop(layer)
            statistics[f"{layer}/mean"] = gaussian.mean(0)[None].cpu()
            covariance = gaussian.covariance(0, packed=self.config.form != "full")[None]
            statistics |= {f"{layer}/{name}": value.cpu() for name, value in self._stored(covariance).items()}
        for layer, held in self.moments.items():
            means, mean_squares = held.all().cpu()[order].double().unbind(1)
            mean, var = self._batch_norm(means, mean_squares, self.kept.class_bn[layer])
            statistics |= {f"{layer}/class_mean": mean[None].float(), f"{layer}/class_var": var[None].float()}
        return statistics | self.images.close(order)

    def _choice(self) -> Tensor:
        """Positions of the embeddings that are kept, ascending."""
        wanted = self.config.embeddings
        if wanted == "all" or wanted >= self.count:
            return torch.arange(self.count)
        drawn = torch.randperm(self.count, generator=generator(self.kept.seed, "embeddings", self.c))
        return drawn[:wanted].sort().values

    def _stored(self, covariance: Tensor) -> dict[str, Tensor]:
        """A covariance [1, ...] in the form and dtype of the bank, by the names of its tensors."""
        dtype = torch.bfloat16 if self.config.dtype == "bf16" else torch.float32
        if self.config.form != "lowrank":
            return {"covariance": covariance.to(dtype)}
        dim = int((2 * covariance.shape[1]) ** 0.5)
        low, discarded = low_rank_covariance(covariance, min(self.config.rank, dim))
        assert low.diagonal is not None  # low_rank_covariance always gives one
        return {"factor": low.factor.to(dtype), "diagonal": low.diagonal.to(dtype), "discarded": discarded}

    def _batch_norm(self, means: Tensor, mean_squares: Tensor, running_mean: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, variance) [channels] of a BatchNorm's input over the class, from those of each image."""
        shift = running_mean.cpu().double()
        if self.config.class_bn == "true":
            mean = means.mean(0)
            return mean, mean_squares.mean(0) - (mean - shift).square()
        random = generator(self.kept.seed, "class_bn", self.c)
        return running_statistics(means, mean_squares, shift, group=self.config.class_bn_group, random=random)


class ImageStatistics:
    """The statistics of single images of one class seen so far.

    Args:
        shifts: layer -> the shift of its mean squares [channels], None for 0; ``conv.<i>`` has patches too.
    """

    def __init__(self, shifts: Mapping[str, Tensor | None]) -> None:
        self.shifts = {f"{layer}/image": shift for layer, shift in shifts.items()}
        self.shifts |= {f"{layer}/patch": None for layer in shifts if layer.startswith("conv.")}
        self.held = {name: RowBuffer() for name in self.shifts}  # [n, 2, D]

    def add(self, features: Features, rows: slice | Tensor) -> None:
        """Take the rows of this class from a batch."""
        for name, held in self.held.items():
            layer, _, kind = name.partition("/")
            mean, mean_square = (features.moments if kind == "image" else features.patches)[layer]
            held.add(torch.stack((mean[rows], mean_square[rows]), dim=1))

    def close(self, order: Tensor) -> dict[str, Tensor]:
        """``<layer>/image_mean``, ``_within``, ``_between`` and ``<layer>/patch_...``, each [1, D]."""
        statistics: dict[str, Tensor] = {}
        for name, held in self.held.items():
            mean, mean_square = held.all().cpu()[order].double().unbind(1)
            shift = self.shifts[name]
            within = mean_square - (mean if shift is None else mean - shift.cpu().double()).square()
            spread = Spread(mean.mean(0), within.mean(0), mean.var(0, correction=0))
            statistics |= {f"{name}_{key}": value[None].float() for key, value in spread._asdict().items()}
        return statistics


class RowBuffer:
    """Rows of one width in one block of memory, in the dtype and on the device of the first ones.

    A list of small tensors would do, but each lies where the heap ended when it was made, between the
    activations of one batch and those of the next, and keeps the allocator from giving the same memory to the
    next batch's. The forward pass then touches fresh pages again and again, which cost it up to a fifth of
    its speed. The room doubles when it is full.
    """

    def __init__(self) -> None:
        self.block = torch.empty(0)
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Append rows [k, ...]."""
        needed = self.count + len(rows)
        if needed > len(self.block):
            grown = rows.new_empty(max(FIRST, needed, 2 * len(self.block)), *rows.shape[1:])
            if self.count:
                grown[: self.count] = self.block[: self.count]
            self.block = grown
        self.block[self.count : needed] = rows
        self.count = needed

    def all(self) -> Tensor:
        """The rows so far [n, ...]; valid until more are added."""
        return self.block[: self.count]

    def clear(self) -> None:
        """Forget the rows and keep the room."""
        self.count = 0


def running_statistics(
    mean: Tensor, mean_square: Tensor, shift: Tensor, *, group: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """LPLD's class-wise running mean and variance, each [channels] float64, in closed form.

        b <- 0.9 b + 0.1 v,   b_0 = (0, 1),   so   b_T = 0.9^T b_0 + 0.1 sum_t 0.9^(T - t) v_t

    v_t are the mean and the biased variance over the pixels of the class's images in the t-th mini-batch. A
    shuffled mini-batch holds few images of a class, so b is the variance inside about the last ten of
    them and lacks most of the variance between images.

    Args:
        mean, mean_square: [n, channels] float64 of each image: the mean, and the mean square about shift.
        shift: [channels] float64.
        group: images of the class in a mini-batch.
    """
    order = torch.randperm(len(mean), generator=random)
    groups = order.split(group)
    means = torch.stack([mean[rows].mean(0) for rows in groups])
    variances = torch.stack([mean_square[rows].mean(0) for rows in groups]) - (means - shift).square()
    weights = MOMENTUM * (1 - MOMENTUM) ** torch.arange(len(groups) - 1, -1, -1, dtype=mean.dtype)
    return weights @ means, weights @ variances + (1 - MOMENTUM) ** len(groups)


class Spread(NamedTuple):
    """Statistics of the single images of k classes, each [k, D] float32."""

    mean: Tensor
    """mean of the images' means"""
    within: Tensor
    """mean of the images' variances"""
    between: Tensor
    """variance of the images' means"""


def over_all(spread: Spread, counts: Sequence[int], batch: int | All) -> tuple[Tensor, Tensor]:
    """Mean and variance over the images of all classes, as one set (see the top of the file).

    Args:
        batch: images of the mini-batches whose variances are averaged; "all": one variance over everything.

    Returns:
        (mean [D], variance [D]) float32.
    """
    total = sum(counts)
    share = torch.tensor(counts, dtype=torch.float64)[:, None] / total
    means, within, between = (value.cpu().double() for value in spread)
    mean = (share * means).sum(0)
    between = (share * (between + (means - mean).square())).sum(0)
    batches = 1 if batch == "all" else -(-total // batch)
    part = (total - batches) / max(total - 1, 1)
    return mean.float(), ((share * within).sum(0) + part * between).float()
