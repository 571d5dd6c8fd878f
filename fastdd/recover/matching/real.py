"""The real training images in memory, and which of each class take part in a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastdd_kernels import siamese_draws

from ...config import Siamese
from ...runtime.seeds import generator
from ...teachers import Teacher


@dataclass(frozen=True)
class RealImages:
    """The training images, decoded once.

    Attributes:
        images: uint8 [N, C, H, W] in class order, on the device of the networks.
        teacher: gives the normalization of images.
    """

    images: Tensor
    counts: tuple[int, ...]
    teacher: Teacher
    seed: int

    @staticmethod
    def of(images: Tensor, labels: Tensor, teacher: Teacher, seed: int) -> RealImages:
        """Images with their classes int64 [N], in any order."""
        ordered, order = labels.cpu().sort(stable=True)
        counts = torch.bincount(ordered, minlength=len(teacher.card.classes)).tolist()
        in_order = torch.equal(order, torch.arange(len(order)))
        return RealImages(
            images if in_order else images[order.to(images.device)], tuple(counts), teacher, seed
        )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    def rows(self, c: int, count: int, number: int) -> Tensor:
        """Positions int64 of ``count`` images of class c, drawn for the draw of that number; all of a class
        that has fewer."""
        random = generator(self.seed, "match real", number, c)
        first = sum(self.counts[:c])
        return first + torch.randperm(self.counts[c], generator=random)[:count]

    def drawn(self, c: int, count: int, number: int) -> Tensor:
        """Those images, normalized float32 [n, C, H, W]."""
        return self.take(self.rows(c, count, number))

    def take(self, rows: Tensor) -> Tensor:
        """Normalized float32 images at these positions."""
        return self.teacher.normalize(self.images[rows.to(self.images.device)]).contiguous()

    def labels(self, rows: Tensor) -> Tensor:
        """The classes int64 of the images at these positions, on the CPU."""
        return torch.bucketize(rows, torch.tensor(self.counts).cumsum(0), right=True)

    def siamese(self, config: Siamese, c: int, number: int) -> Tensor:
        """The Siamese draw of class c, float64 [1, 13], for the draw of that number; [0, 13] without
        operations."""
        height, width = self.images.shape[2:]
        random = generator(self.seed, "match siamese", number, c)
        if not config.operations:
            return siamese_draws(0, height, width)
        return siamese_draws(1, height, width, config.operations, together=config.together, generator=random)
