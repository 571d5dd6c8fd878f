"""What the bank keeps of one class, made from the feature rows of its images once all have been seen.

Rows are kept, not sums: a class of n images costs n times the tapped channels (1,300 x 26,560 floats, 138 MB, for all
53 BatchNorm inputs of a ResNet-50) while it is open, and then one matrix product a layer gives its covariance, where
adding batch by batch would give many small ones. It also makes the result independent of how batches fell. A class
too large for that is added up in parts of PART rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastdd_kernels import ClassGaussian, low_rank_covariance

from ..config import Bank
from ..runtime.seeds import generator
from ..teachers import Features
from .image_statistics import ImageStatistics
from .row_buffer import Rows

PART = 4096  # rows held before they are added to the sums
MOMENTUM = 0.1  # of LPLD's class-wise running statistics, that of a BatchNorm

Statistics = dict[str, Tensor]
"""of one class; names as in store.py"""


class OpenClass:
    """The images of one class seen so far.

    Args:
        config: forms and choices.
        layers: tapped layers whose mean and covariance are kept.
        running: BatchNorm layer -> (running mean, running variance), for the class-wise statistics.
        identity: (seed, class), for the seeded choices.
        shifts: layer -> shift of its moments, for the statistics of single images (see image_statistics.py).
    """

    def __init__(
        self,
        config: Bank,
        layers: list[str],
        running: dict[str, tuple[Tensor, Tensor]],
        identity: tuple[int, int],
        shifts: dict[str, Tensor | None] | None = None,
    ) -> None:
        self.config, self.layers, self.running, self.identity = config, layers, running, identity
        self.count = 0
        self.indices, self.embeddings = Rows(), Rows()
        self.pooled = {layer: Rows() for layer in layers}
        self.moments = {layer: Rows() for layer in running}  # [n, 2, channels]
        self.gaussians: dict[str, ClassGaussian] = {}
        self.images = ImageStatistics(shifts or {})

    # Rows stay on the device until the class is closed: a copy to the host would wait for the forward pass.

    def add(self, features: Features, rows: slice | Tensor, indices: Tensor) -> None:
        """Take the rows of this class from a batch; indices are their positions in the data set."""
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

    def _add_up(self, layer: str, held: Rows) -> None:
        rows = held.all()
        if layer not in self.gaussians:
            self.gaussians[layer] = ClassGaussian(1, rows.shape[1], device=rows.device)
        self.gaussians[layer].update(rows, torch.zeros(len(rows), dtype=torch.long))
        held.clear()

    def close(self) -> Statistics:
        """The statistics of the class, on the CPU; with a first dimension of 1 where there is one of a class."""
        order = self.indices.all().argsort()  # as in the data set, whatever the order of the stream
        statistics: Statistics = {}
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
            mean, var = self._batch_norm(means, mean_squares, self.running[layer][0])
            statistics |= {f"{layer}/class_mean": mean[None].float(), f"{layer}/class_var": var[None].float()}
        return statistics | self.images.close(order)

    def _choice(self) -> Tensor:
        """Positions of the embeddings that are kept, ascending."""
        wanted = self.count if self.config.embeddings == "all" else min(self.config.embeddings, self.count)
        drawn = torch.randperm(
            self.count, generator=generator(self.identity[0], "embeddings", self.identity[1])
        )
        return drawn[:wanted].sort().values

    def _stored(self, covariance: Tensor) -> dict[str, Tensor]:
        dtype = torch.bfloat16 if self.config.dtype == "bf16" else torch.float32
        if self.config.form != "lowrank":
            return {"covariance": covariance.to(dtype)}
        dim = int((2 * covariance.shape[1]) ** 0.5)
        low, discarded = low_rank_covariance(covariance, min(self.config.rank, dim))
        assert low.diagonal is not None  # it always gives one
        return {"factor": low.factor.to(dtype), "diagonal": low.diagonal.to(dtype), "discarded": discarded}

    def _batch_norm(self, means: Tensor, mean_squares: Tensor, running_mean: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, variance) [channels] of a BatchNorm's input over the class, from [n, channels] of its images."""
        shift = running_mean.cpu().double()
        if self.config.class_bn == "true":
            mean = means.mean(0)
            return mean, mean_squares.mean(0) - (mean - shift).square()
        random = generator(self.identity[0], "class_bn", self.identity[1])
        return running_statistics(means, mean_squares, shift, self.config.class_bn_group, random)


def running_statistics(
    mean: Tensor, mean_square: Tensor, shift: Tensor, group: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """LPLD's class-wise running mean and variance, in closed form.

        b <- 0.9 b + 0.1 v,   b_0 = (0, 1),   so   b_T = 0.9^T b_0 + 0.1 sum_t 0.9^(T - t) v_t

    with v_t the mean and biased variance over pixels of the class's images in the t-th mini-batch; there are few of
    them in a shuffled mini-batch, so b holds the spatial variance of the last ten sightings and lacks what lies
    between images.

    Args:
        mean, mean_square: [n, channels] float64 of each image: mean, and mean square about shift.
        shift: [channels]
        group: images of the class in a mini-batch.
        random: their order.
    """
    order = torch.randperm(len(mean), generator=random)
    groups = order.split(group)
    means = torch.stack([mean[rows].mean(0) for rows in groups])
    variances = torch.stack([mean_square[rows].mean(0) for rows in groups]) - (means - shift).square()
    weights = MOMENTUM * (1 - MOMENTUM) ** torch.arange(len(groups) - 1, -1, -1, dtype=mean.dtype)
    return weights @ means, weights @ variances + (1 - MOMENTUM) ** len(groups)
