"""Batches of a resident set for students: gathered, augmented, normalized and mixed on the device, one draw a batch.

The set is normalized once where that takes little memory, else batch by batch; the numbers are the same. The order is
the released loaders': RandAugment of the levels, patches shuffled, crop or shift, flip, and the mixture of the
normalized batch. What an epoch draws comes from one generator in the order of use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from ..config import Student
from ..data.loading.augment import shift_and_flip
from ..runtime.seeds import generator
from ..teachers import Teacher
from .batch_norm_check import smallest_batch
from .mix import mix
from .randaugment import randaugment

ONCE = 1 << 28
"""bytes up to which a normalized set is kept"""


@dataclass(frozen=True)
class Batch:
    """A step's images.

    Attributes:
        images: float32 [B, C, H, W], normalized and mixed.
        targets: soft labels (logits) [B, classes] of these very images, or with hard labels the shares of the classes
            in them, which sum to 1; None: the teacher is asked.
        hard: int64 [B], classes of the images, whatever was mixed in; None where the loss has no use for them.
    """

    images: Tensor
    targets: Tensor | None
    hard: Tensor | None

    def parts(self, count: int) -> list[Batch]:
        """The batch in so many parts, or fewer where it is small."""
        if count == 1:
            return [self]
        several = [
            [None] * count if tensor is None else tensor.chunk(count)
            for tensor in (self.images, self.targets, self.hard)
        ]
        return [Batch(*part) for part in zip(*several, strict=False)]


class Batches(Protocol):
    """What students learn from: a set with its augmentation, and with labels where those are stored view by view."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def smallest(self) -> int:
        """Images of the smallest batch."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """One pass."""


class Augmented:
    """Batches of a set that are drawn anew in every epoch; epochs are asked for in order.

    Args:
        config: settled protocol.
        teacher: whose normalization the images get.
        images: uint8 [N, C, H, W], on the device to train on.
        logits: one soft label an image [N, classes], or None.
        hard: int64 [N] classes, for protocols that learn them, or None.
        seed: of order, augmentation and mixing.
        epoch_images: images an epoch, the next ones of one pass after another over the set; None: all.
    """

    def __init__(
        self,
        config: Student,
        teacher: Teacher,
        images: Tensor,
        logits: Tensor | None,
        hard: Tensor | None,
        seed: int,
        epoch_images: int | None = None,
    ) -> None:
        assert config.batch != "by_ipc"  # settled
        self.config, self.teacher, self.images, self.batch = config, teacher, images, config.batch
        self.logits, self.hard, self.draw = logits, hard, generator(seed, "batches")
        once = config.randaugment is None and 4 * images.numel() <= ONCE
        self.normalized = teacher.normalize(images) if once else None
        self.black = teacher.bounds(images.device)[0]
        self.share = len(images) if epoch_images is None else epoch_images
        self.waiting = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return -(-self.share // self.batch)

    def smallest(self) -> int:
        return smallest_batch(self.share, self.batch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        config, draw = self.config, self.draw
        for rows in self._order().split(self.batch):
            index = rows.to(self.images.device)
            batch = self._augmented(index)
            hard = None if self.hard is None else self.hard[index]
            batch, targets = mix(batch, self._targets(index, hard), config.mix, config.mix_alpha, draw)
            yield Batch(batch, targets, hard)

    def _targets(self, index: Tensor, hard: Tensor | None) -> Tensor | None:
        """What the images alone are to give, before they are mixed."""
        if self.config.labels == "hard":
            assert hard is not None  # checked before
            return F.one_hot(hard, len(self.teacher.card.classes)).float()
        return None if self.logits is None else self.logits[index]

    def _order(self) -> Tensor:
        """The images of an epoch: what the passes before have left, and new passes."""
        while len(self.waiting) < self.share:
            self.waiting = torch.cat([self.waiting, torch.randperm(len(self.images), generator=self.draw)])
        rows, self.waiting = self.waiting[: self.share], self.waiting[self.share :]
        return rows

    def _augmented(self, index: Tensor) -> Tensor:
        config, draw = self.config, self.draw
        if self.normalized is not None:
            batch = self.normalized[index]
        else:
            levels = self.images[index]
            if config.randaugment is not None:
                levels = randaugment(levels, config.randaugment, draw)
            batch = self.teacher.normalize(levels)
        if config.shuffle_patches > 1:
            batch = shuffle_patches(batch, config.shuffle_patches, draw)
        if config.scale is not None:
            height, width = batch.shape[2:]
            windows = resample_parameters(
                len(batch), height, width, config.scale, flip=config.flip, generator=draw
            )
            return resample(batch, windows).contiguous(memory_format=torch.channels_last)
        if config.padding == "black":
            return shift_and_flip(batch - self.black, config.pad, config.flip, draw) + self.black
        return shift_and_flip(batch, config.pad, config.flip, draw)


def shuffle_patches(images: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Shuffle the ``count`` strips of each image across, and those down; the last strip has what is left over.

    Args:
        images: [N, C, H, W].
        draw: on the CPU.
    """
    N, C, H, W = images.shape
    rows, columns = (_shuffled(N, side, count, draw) for side in (H, W))
    n, c = torch.arange(N)[:, None, None, None], torch.arange(C)[None, :, None, None]
    index = (n, c, rows[:, None, :, None], columns[:, None, None, :])
    return images[tuple(i.to(images.device) for i in index)].contiguous(memory_format=torch.channels_last)


def _shuffled(images: int, side: int, count: int, draw: torch.Generator) -> Tensor:
    """Positions [images, side], those of whole strips in a new order."""
    strip = (torch.arange(side) // (side // count)).clamp(max=count - 1)
    rank = torch.rand(images, count, generator=draw).argsort(1)
    return (rank[:, strip] * side + torch.arange(side)).argsort(1)
