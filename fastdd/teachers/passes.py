"""Passes over a split in batches: from memory where the images fit, else decoded again in every pass.

Both kinds give the same batches, so the memory of a machine does not change the teacher. Random resized crops
are cut out of the stored images, which memory does not hold, so those are always decoded.

Of several processes each decodes a share: of every shuffled batch; or a block of the class order; or, of
shuffled images in memory, a block that it then sends to all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import Data
from ..data import Crop, Dataset, Loader, Resident, open_loader, resident
from ..data.loading.batch import OnError
from ..runtime.collective import gather_rows
from ..runtime.distributed import WHOLE, Share, everywhere, local_size
from ..runtime.memory import device_budget


class Passes(Protocol):
    """The images of a split, pass after pass."""

    shape: torch.Size
    """[C, H, W] of an image"""
    batch: int
    """images in a full batch of all processes together"""
    share: Share
    """what of them this process gets"""

    def __len__(self) -> int:
        """Batches in a pass."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One pass, a function of the epoch alone.

        Yields:
            uint8 images [B, C, H, W] and int64 labels [B] on the device, and int64 positions [B] in the split
            on the CPU, of the share of this process.
        """


@dataclass
class ResidentPasses:
    """Passes over images in memory.

    Args:
        images: the split in memory; of class order, the block of this process.
        batch: images in a full batch of all processes together; at most the split.
        seed: seed of a new order in every epoch, which leaves out a last batch that is not full. None: class
            order, all images.
    """

    images: Resident
    batch: int
    seed: int | None = None
    share: Share = WHOLE

    def __post_init__(self) -> None:
        self.shape = self.images.images.shape[1:]
        self.batch = min(self.batch, max(1, len(self.images)))

    def __len__(self) -> int:
        return len(self.images) // self.batch if self.seed is not None else -(-len(self.images) // self.batch)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        shuffled = self.seed is not None
        for batch in self.images.batches(
            self.batch,
            epoch=epoch if shuffled else None,
            seed=self.seed or 0,
            drop_last=shuffled,
            shard=self.share if shuffled else WHOLE,
        ):
            yield batch.images, batch.labels, batch.indices


class DecodedPasses:
    """Passes that decode the images each time."""

    def __init__(self, loader: Loader, batch: int, batches: int, share: Share) -> None:
        self.loader, self.batch, self.batches, self.share = loader, batch, batches, share
        self.shape = loader.shape

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self.loader.load_state_dict({**self.loader.state_dict(), "epoch": epoch, "position": 0})
        for batch in self.loader:
            if len(batch.indices):
                yield batch.images, batch.labels, batch.indices


def open_passes(
    dataset: Dataset,
    data: Data,
    batch: int,
    device: torch.device,
    *,
    seed: int | None = None,
    crop: Crop | None = None,
    share: Share = WHOLE,
) -> Passes:
    """Open a split for repeated reading; where several processes share it, all come together.

    Args:
        data: its size, resize, channels, backend and on_error are read.
        batch: images in a full batch of all processes together; at most the split.
        seed: seed of a new order in every epoch, of full batches only; None: class order, all images.
        crop: random resized crop of each image in each epoch, to ``data.size``; it needs a seed. None: whole
            images.

    Raises:
        InputError: images cannot be read, or differ in size where ``data.size`` is null.
    """
    batch = min(batch, max(1, len(dataset)))
    batches = len(dataset) // batch if seed is not None else -(-len(dataset) // batch)
    # A scan has left out what cannot be read. One that lacks an image after it would take other steps.
    on_error: OnError = data.on_error if share.processes == 1 else "fail"
    size = None if data.size is None else (data.size, data.size)

    def loader(size: tuple[int, int] | None) -> Loader:
        return open_loader(
            dataset,
            batch,
            size,
            data.channels,
            order="class" if seed is None else "shuffled",
            crop=crop,
            resize=data.resize if crop is None else None,
            seed=seed or 0,
            drop_last=seed is not None,
            shard=share,
            on_error=on_error,
            backend=data.backend,
            device=device,
        )

    if crop is not None:
        H, W = open_loader(dataset, 1, size, data.channels, on_error=data.on_error).shape[1:]
        return DecodedPasses(loader((H, W)), batch, batches, share)
    stream = loader(size)
    copies = 1 if device.type == "cuda" else min(share.processes, local_size())
    fits = copies * len(dataset) * stream.shape.numel() <= device_budget(device)
    if not (everywhere(fits) if share.processes > 1 else fits):
        return DecodedPasses(stream, batch, batches, share)
    own = share.rows(len(dataset))
    images = resident(
        dataset,
        size,
        data.channels,
        resize=data.resize,
        indices=None if share.processes == 1 else range(own.start, own.stop),
        device=device,
        on_error=on_error,
        backend=data.backend,
    )
    if share.processes > 1 and seed is not None:  # a permutation takes images from everywhere
        images = Resident(
            gather_rows(images.images, len(dataset)),
            dataset.labels.to(device),
            torch.arange(len(dataset)),
            skipped={},
        )
    return ResidentPasses(images, batch, seed, share)
