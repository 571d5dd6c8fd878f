"""Batches of stored labels: what was labelled is shown again, view by view (see fastdd.labels)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..config import Student
from ..labels import Replay, StoredLabels, render_views
from ..teachers import Teacher
from .batch_norm_check import smallest_batch
from .batches import ONCE, Batch


class Replayed:
    """Batches of labelled views; augmentation and mixing are the labels', not the protocol's.

    Args:
        config: settled protocol.
        teacher: whose normalization the images get.
        images: uint8 [N, C, H, W], on the device to train on; those that were labelled.
        stored: their labels.
        hard: int64 [N] classes, or None.
        seed: of orders and draws.
        replay: what an epoch of training sees; see recipe.Labels.
    """

    def __init__(
        self,
        config: Student,
        teacher: Teacher,
        images: Tensor,
        stored: StoredLabels,
        hard: Tensor | None,
        seed: int,
        replay: Replay = "shuffle",
    ) -> None:
        assert config.batch != "by_ipc"  # settled
        self.stored, self.hard, self.seed, self.replay = stored, hard, seed, replay
        self.batch = config.batch if replay == "shuffle" else stored.manifest.augmentation.batch
        once = 4 * images.numel() <= ONCE
        self.images = teacher.normalize(images) if once else images
        self.prepare = None if once else teacher.normalize

    def __len__(self) -> int:
        return self.stored.steps(self.replay, self.batch)

    def smallest(self) -> int:
        return smallest_batch(len(self.images), self.batch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        for labelled, ids in self.stored.batches(epoch, self.seed, self.replay, self.batch):
            views, logits = self.stored.get(labelled, ids)
            device = self.images.device
            hard = None if self.hard is None else self.hard[ids.to(device)]
            yield Batch(render_views(self.images, views, self.prepare), logits.to(device), hard)
