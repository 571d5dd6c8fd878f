"""Passes over a split in batches: from memory where it fits, else decoded again each time.

Both give the same batches, so that how much memory a machine has does not change the teacher. Random windows are
cut out of the images as stored, which memory does not hold; they are always decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import Data
from ..data import Crop, Dataset, Loader, Resident, open_loader, resident
from ..runtime.memory import device_budget


class Passes(Protocol):
    """Images of a split, pass after pass."""

    shape: torch.Size
    """[C, H, W] of an image"""
    batch: int
    """images a batch, at the most"""

    def __len__(self) -> int:
        """Batches of a pass."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass: uint8 images [B, C, H, W] and int64 labels [B], on the device; a function of the epoch alone."""


@dataclass
class Held:
    """Passes over a resident set.

    Args:
        kept: the images.
        batch: images a batch.
        seed: of the order, which drops a last batch that is not full; None: in class order, and all.
    """

    kept: Resident
    batch: int
    seed: int | None = None

    def __post_init__(self) -> None:
        self.shape = self.kept.images.shape[1:]
        self.batch = min(self.batch, max(1, len(self.kept)))

    def __len__(self) -> int:
        return len(self.kept) // self.batch if self.seed is not None else -(-len(self.kept) // self.batch)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = self.seed is not None
        for batch in self.kept.batches(
            self.batch, epoch=epoch if shuffled else None, seed=self.seed or 0, drop_last=shuffled
        ):
            yield batch.images, batch.labels


class Streamed:
    """Passes that decode.

    Args:
        loader: opened with the same size of batch.
        batch: images a batch.
    """

    def __init__(self, loader: Loader, batch: int) -> None:
        self.loader, self.batch = loader, batch
        self.shape = loader.shape

    def __len__(self) -> int:
        return -(-len(self.loader) // self.batch)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.loader.load_state_dict({**self.loader.state_dict(), "epoch": epoch, "position": 0})
        for batch in self.loader:
            if len(batch.indices):
                yield batch.images, batch.labels


def open_passes(
    dataset: Dataset,
    data: Data,
    batch: int,
    device: torch.device,
    seed: int | None = None,
    crop: Crop | None = None,
) -> Passes:
    """Open a split for repeated reading.

    Args:
        data: size, channels, backend and what to do about unreadable images.
        batch: images a batch.
        device: where batches are delivered.
        seed: of a new order each epoch, of full batches only; None: in class order, and all.
        crop: a random window of each image in each epoch, resized to ``data.size``; needs a seed.

    Raises:
        InputError: images that cannot be read, or that differ in size where ``data.size`` is null.
    """
    batch = min(batch, max(1, len(dataset)))
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
            on_error=data.on_error,
            backend=data.backend,
            device=device,
        )

    if crop is not None:
        H, W = open_loader(dataset, 1, size, data.channels, on_error=data.on_error).shape[1:]
        return Streamed(loader((H, W)), batch)
    stream = loader(size)
    if len(dataset) * stream.shape.numel() > device_budget(device):
        return Streamed(stream, batch)
    kept = resident(
        dataset,
        size,
        data.channels,
        resize=data.resize,
        device=device,
        on_error=data.on_error,
        backend=data.backend,
    )
    return Held(kept, batch, seed)
