"""Batches of a resident set for students: gathered, augmented, normalized and mixed on the device.

A batch goes through the released loaders' steps in their order: RandAugment of the uint8 levels,
normalization, shuffled patches, crop or shift, flip, Siamese augmentation (DSA), and MixUp or CutMix with one
ratio, one permutation and one box a batch, as in the SRe2L family. Everything that an epoch draws comes from
one generator, in the order of use. Where the normalized set takes little memory it is normalized once, else
batch by batch; the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd_kernels import resample, resample_parameters, siamese_augment

from ..config import Student
from ..data.loading.augment import mix_batch, shift_and_flip, siamese_rows
from ..distilled.images import ONE_A_FILE, Storage
from ..errors import InputError
from ..labels import Replay, StoredLabels, Views, render_views
from ..protocols import SettledStudent
from ..runtime.seeds import generator
from ..teachers import Teacher
from .randaugment import randaugment

KEPT_BYTES = 1 << 28
"""bytes up to which a set is kept normalized"""


@dataclass(frozen=True)
class StudentBatch:
    """What a student sees in a step.

    Attributes:
        images: float32 [B, C, H, W], normalized and mixed.
        targets: float [B, classes]: soft labels (logits) of these very images; with ``labels: hard`` the
            shares of the classes in them, which sum to 1; None: the teacher is asked.
        hard_labels: int64 [B], classes of the images, whatever was mixed in; None: the loss does not use
            them.
        class_shares: float [B, classes], the shares of the classes in the images, for a loss that takes them
            beside soft labels; None: it does not.
    """

    images: Tensor
    targets: Tensor | None
    hard_labels: Tensor | None
    class_shares: Tensor | None = None

    def parts(self, count: int) -> list[StudentBatch]:
        """Cut the batch into this many parts, or fewer where it is small."""
        if count == 1:
            return [self]
        fields = (self.images, self.targets, self.hard_labels, self.class_shares)
        chunks = [[None] * count if tensor is None else tensor.chunk(count) for tensor in fields]
        return [StudentBatch(*part) for part in zip(*chunks, strict=False)]


class StudentBatches(Protocol):
    """What a student learns from, epoch after epoch."""

    def __len__(self) -> int:
        """Number of batches an epoch."""

    def smallest(self) -> int:
        """Number of images in the smallest batch."""

    def epoch(self, epoch: int) -> Iterator[StudentBatch]:
        """Yield the batches of an epoch, or what is left of one that ``restore`` took up in its middle."""

    def state(self) -> dict[str, Tensor]:
        """What the batches that are still to come depend on, beside their number."""

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        """Go on after ``done`` batches, with what ``state`` gave then."""


class AugmentedBatches:
    """Batches of a set whose augmentation is drawn anew in every epoch; epochs must be asked for in order.

    Args:
        config: the protocol. Where ``config.images`` is less than the set has, an epoch takes the next so
            many images of one shuffled pass after another.
        teacher: the network whose normalization the images get.
        images: uint8 [N, C, H, W], on the device to train on.
        seed: seed of order, augmentation and mixing.
        soft_labels: stored logits [N, classes], one label an image; None: targets are the teacher's.
        hard_labels: int64 [N], classes of the images, for protocols whose loss uses them.
        storage: how the images lie in files, on the same device.
    """

    def __init__(
        self,
        config: SettledStudent,
        teacher: Teacher,
        images: Tensor,
        *,
        seed: int,
        soft_labels: Tensor | None = None,
        hard_labels: Tensor | None = None,
        storage: Storage = ONE_A_FILE,
    ) -> None:
        self.config, self.teacher, self.images, self.storage = config, teacher, images, storage
        self.soft_labels, self.hard_labels, self.draw = soft_labels, hard_labels, generator(seed, "batches")
        keep = config.randaugment is None and 4 * images.numel() <= KEPT_BYTES
        self.normalized = teacher.normalize(images) if keep else None
        self.black = teacher.bounds(images.device)[0]
        self.waiting = torch.empty(0, dtype=torch.int64)
        self.rows = self.waiting
        """the images of the present epoch that are still to come"""

    def __len__(self) -> int:
        return -(-self.config.images // self.config.batch)

    def smallest(self) -> int:
        return smallest_batch(self.config.images, self.config.batch)

    def epoch(self, epoch: int) -> Iterator[StudentBatch]:
        config, draw = self.config, self.draw
        self.rows = self.rows if len(self.rows) else self._order()
        while len(self.rows):
            rows, self.rows = self.rows[: config.batch], self.rows[config.batch :]
            index = rows.to(self.images.device)
            images = self._augmented(index)
            hard_labels = None if self.hard_labels is None else self.hard_labels[index]
            targets = None if self.soft_labels is None else self.soft_labels[index]
            shares = self._class_shares(hard_labels)
            # what is mixed as the images are, side by side
            columns = [each for each in (targets, shares) if each is not None]
            mixed = torch.cat(columns, dim=1) if columns else None
            images = siamese_batch(images, config, draw)
            # a number is drawn only where it decides, so that batches that are always mixed keep their draws
            if config.mix_probability == 1 or float(torch.rand((), generator=draw)) < config.mix_probability:
                images, mixed = mix_batch(images, mixed, config.mix, alpha=config.mix_alpha, draw=draw)
            if mixed is not None and shares is not None:
                before = mixed.shape[1] - shares.shape[1]
                targets, shares = mixed[:, :before] if before else None, mixed[:, before:]
            else:
                targets = mixed
            if config.labels == "hard":
                yield StudentBatch(images, shares, hard_labels)
            else:
                yield StudentBatch(images, targets, hard_labels, shares)

    def state(self) -> dict[str, Tensor]:
        return {"draw": self.draw.get_state(), "waiting": self.waiting, "rows": self.rows}

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        self.draw.set_state(state["draw"])
        self.waiting, self.rows = state["waiting"], state["rows"]

    def _class_shares(self, hard_labels: Tensor | None) -> Tensor | None:
        """The shares of the classes in images that are not mixed yet; None: the loss does not take them."""
        uses = self.config.labels == "hard" or self.config.mixes_classes
        if hard_labels is None or not uses:
            return None
        return F.one_hot(hard_labels, len(self.teacher.card.classes)).float()

    def _order(self) -> Tensor:
        """The images of the next epoch: what earlier passes have left, and new passes."""
        of_each = self.storage.per_file if self.config.per_epoch == "stored" else 1
        while len(self.waiting) < self.config.images:
            order = torch.randperm(len(self.images) // of_each, generator=self.draw)
            self.waiting = torch.cat([self.waiting, order])
        rows, self.waiting = self.waiting[: self.config.images], self.waiting[self.config.images :]
        if of_each == 1:
            return rows
        return of_each * rows + torch.randint(of_each, rows.shape, generator=self.draw)

    def _mosaics(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        """Which images of a batch a student sees as the whole file that holds them, bool [B], and these
        files, uint8; None: it sees no files."""
        if not self.config.whole or self.storage.mosaics is None:
            return None
        chosen = torch.rand(len(index), generator=self.draw) < self.config.whole
        chosen = chosen.to(index.device)
        return chosen, self.storage.mosaics[index[chosen] // self.storage.per_file]

    def _augmented(self, index: Tensor) -> Tensor:
        """The images at some positions, normalized and augmented, but not mixed."""
        config, draw, mosaics = self.config, self.draw, self._mosaics(index)
        if self.normalized is not None:
            batch = self.normalized[index]
            if mosaics is not None:
                batch[mosaics[0]] = self.teacher.normalize(mosaics[1])
        else:
            levels = self.images[index]
            if mosaics is not None:
                levels[mosaics[0]] = mosaics[1]
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
            return resample(batch, windows)
        if config.pad_color == "black":
            return shift_and_flip(batch - self.black, config.pad, config.flip, draw) + self.black
        return shift_and_flip(batch, config.pad, config.flip, draw)


class StagedBatches:
    """Batches of ``label_stages`` (HALD), with soft and with hard labels in turn.

    Both kinds go on where their last stage ended. In HALD's released code each soft stage begins a new pass
    over its labels, and hard batches are mixed with themselves in reverse, by the share of the clipped box.

    Args:
        config: the protocol, with ``label_stages``.
        hard: batches of the hard stages; an epoch of the training has as many as one of ``soft``.
    """

    def __init__(self, config: SettledStudent, soft: StudentBatches, hard: StudentBatches) -> None:
        self.config, self.kinds = config, (soft, hard)
        self._soft, self._hard = endless(soft), endless(hard)
        self._start = 0

    def __len__(self) -> int:
        return len(self.kinds[0])

    def smallest(self) -> int:
        return min(kind.smallest() for kind in self.kinds)

    def epoch(self, epoch: int) -> Iterator[StudentBatch]:
        for step in range(max(epoch * len(self), self._start), (epoch + 1) * len(self)):
            yield next(self._hard if self.config.in_hard_stage(step) else self._soft)

    def state(self) -> dict[str, Tensor]:
        names = ("soft", "hard")
        states = {name: kind.state() for name, kind in zip(names, self.kinds, strict=True)}
        return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        hard = sum(map(self.config.in_hard_stage, range(done)))
        for name, kind, given in zip(("soft", "hard"), self.kinds, (done - hard, hard), strict=True):
            own = {key.partition("/")[2]: value for key, value in state.items() if key.startswith(name)}
            kind.restore(own, given)
        self._soft, self._hard = endless(self.kinds[0], done - hard), endless(self.kinds[1], hard)
        self._start = done


def endless(source: StudentBatches, done: int = 0) -> Iterator[StudentBatch]:
    """The batches of one epoch after the other; of a restored source those after the ``done`` ones."""
    for epoch in count(done // len(source)):
        yield from source.epoch(epoch)


def shuffle_patches(images: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Shuffle the ``count`` strips of each image [N, C, H, W] across, and those down.

    The last strip has the pixels that are left over. The generator is on the CPU, so draws do not depend on
    the device.
    """
    N, C, H, W = images.shape
    rows, columns = (_shuffled(N, side, count, draw) for side in (H, W))
    n, c = torch.arange(N)[:, None, None, None], torch.arange(C)[None, :, None, None]
    index = (n, c, rows[:, None, :, None], columns[:, None, None, :])
    return images[tuple(i.to(images.device) for i in index)]


def _shuffled(images: int, side: int, count: int, draw: torch.Generator) -> Tensor:
    """Pixel positions [images, side] with whole strips in a new order."""
    strip = (torch.arange(side) // (side // count)).clamp(max=count - 1)
    rank = torch.rand(images, count, generator=draw).argsort(1)
    return (rank[:, strip] * side + torch.arange(side)).argsort(1)


def siamese_batch(images: Tensor, config: Student, draw: torch.Generator) -> Tensor:
    """Normalized images [N, C, H, W] after Siamese augmentation, as the protocol says.

    The batch has one operation of ``siamese``, drawn with equal probabilities, and all of ``siamese_always``;
    each image has parameters of its own. Released code does this where DSA is given no seed. The order is
    warp, color, cutout; IDC's code has the color before the warp.
    """
    always, one_of = config.siamese_always or (), config.siamese or ()
    rows = siamese_rows(len(images), images.shape[2:], always=always, one_of=one_of, draw=draw)
    return siamese_augment(images, rows) if len(rows) else images


def smallest_batch(images: int, batch: int) -> int:
    """Number of images in the smallest batch of an epoch: what full batches leave over, else a full batch."""
    return images % batch or min(batch, images)


def check_batch_norm(
    config: SettledStudent, networks: Mapping[str, nn.Module], smallest: int, key: str = "student"
) -> None:
    """Refuse batches of one image for networks with BatchNorm in train mode, which cannot normalize those.

    Args:
        config: the protocol; ``accumulate`` cuts batches into parts.
        networks: the networks that see the batches, by what a message calls them.
        smallest: number of images in the smallest batch.
        key: the recipe's section that holds the protocol, for the message.
    """
    part = min(len(part) for part in torch.empty(smallest).chunk(config.accumulate))
    for name, network in networks.items():
        normalizes = any(
            module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)
            for module in network.modules()
        )
        if part == 1 and normalizes:
            raise InputError(
                f"{name} has BatchNorm, whose statistics need several images, but with "
                f"{key}.batch={config.batch} and {key}.accumulate={config.accumulate} a batch of this "
                "set has a single one; choose a batch that leaves no single image over, or a student without "
                "BatchNorm, such as convnet"
            )


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
