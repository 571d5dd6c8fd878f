"""Batches of stored labels: a student sees again what was labelled, view by view (fastdd.labels)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import torch.nn.functional as F
from torch import Tensor

from ..labels import Replay, StoredLabels, Views, render_views
from ..protocols import SettledStudent
from ..teachers import Teacher
from .batches import KEPT_BYTES, StudentBatch, smallest_batch


class ReplayedBatches:
    """Batches of labelled views; their augmentation and mixing are those of the labels.

    Args:
        config: the protocol, which says how large a batch is.
        teacher: the network whose normalization the images get.
        images: uint8 [N, C, H, W], the labelled images, on the device to train on.
        stored: their labels.
        seed: seed of orders and draws.
        hard_labels: int64 [N], classes of the images, for protocols whose loss uses them.
        replay: which labelled samples an epoch sees; see config.Labels.replay.
    """

    def __init__(
        self,
        config: SettledStudent,
        teacher: Teacher,
        images: Tensor,
        stored: StoredLabels,
        *,
        seed: int,
        hard_labels: Tensor | None = None,
        replay: Replay = "shuffle",
    ) -> None:
        self.stored, self.hard_labels, self.seed, self.replay = stored, hard_labels, seed, replay
        self.mixes_classes = config.mixes_classes
        self.batch = config.batch if replay == "shuffle" else stored.manifest.augmentation.batch
        keep = 4 * images.numel() <= KEPT_BYTES
        self.images = teacher.normalize(images) if keep else images
        self.normalize = None if keep else teacher.normalize
        self._start = 0

    def __len__(self) -> int:
        return self.stored.steps(self.replay, self.batch)

    def smallest(self) -> int:
        return smallest_batch(len(self.images), self.batch)

    def epoch(self, epoch: int) -> Iterator[StudentBatch]:
        device = self.images.device
        skipped = max(0, self._start - epoch * len(self))
        batches = self.stored.batches(epoch, self.seed, self.replay, self.batch)
        for labelled, ids in islice(batches, skipped, None):
            views, logits = self.stored.get(labelled, ids)
            hard_labels = None if self.hard_labels is None else self.hard_labels[ids.to(device)]
            images = render_views(self.images, views, self.normalize)
            shares = None  # where the loss does not take them
            if self.hard_labels is not None and self.mixes_classes:
                shares = class_shares(views, self.hard_labels, self.stored.manifest.classes)
            yield StudentBatch(images, logits.to(device), hard_labels, shares)

    def state(self) -> dict[str, Tensor]:
        return {}  # an epoch is a function of the seed and its number

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        self._start = done


def class_shares(views: Views, labels: Tensor, classes: int) -> Tensor:
    """The shares of the classes in views, float32 [B, classes]: of a mixture those of both images.

    Args:
        labels: int64 [N], the classes of the images of the set.
    """
    own = F.one_hot(labels[views.ids.to(labels.device)], classes).float()
    if views.partners is None or views.ratios is None:
        return own
    others = F.one_hot(labels[views.partners.to(labels.device)], classes).float()
    ratio = views.ratios.float().to(labels.device)[:, None]
    return ratio * own + (1 - ratio) * others
