"""A data set that fits into memory, decoded once and kept on the device; every epoch after that is a gather.

Augmentation is one draw an epoch and two matrix products a batch, on the device, instead of a decode and a
resize for each image. Cost: N C H W bytes (CIFAR-10: 154 MB), and one pass of a loader to fill them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError
from ...runtime.distributed import Share
from ...runtime.memory import device_budget, require_memory
from ...runtime.progress import progress
from ...runtime.seeds import generator
from ..dataset import Dataset
from .augment import crop_and_flip
from .base_loader import Order, Schedule
from .batch import Backend, Batch, OnError
from .crops import Crop
from .loader import open_loader

CHUNK = 256  # images decoded between two steps of the progress bar


@dataclass(frozen=True)
class Resident:
    """Decoded images of a dataset.

    Attributes:
        images: uint8 [N, C, H, W], contiguous.
        labels: int64 [N], on the same device.
        indices: int64 [N] positions in the dataset, on the CPU.
        skipped: position in the dataset -> why that image could not be read.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    skipped: dict[int, str]

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int | None = None,
        seed: int = 0,
        crop: Crop | None = None,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """One pass.

        Args:
            batch_size: images a batch; the last may hold fewer.
            epoch: number of the epoch, whose order depends on (seed, epoch) alone; None: the order in which
                the images are kept.
            seed: seed of the order and of the crops.
            crop: draw a window of each image and resize it to the image's size; needs an epoch. A window
                depends on (seed, epoch, image), not on the batch.
            drop_last: leave out a last batch that is not full.
            shard: as for open_loader.

        Raises:
            InputError: the batch size is below 1, or a crop without an epoch.
        """
        if crop is not None and epoch is None:
            raise InputError("a random crop needs an epoch to be drawn for; set epoch")
        order: Order = "class" if epoch is None else "shuffled"
        schedule = Schedule(
            len(self), None, order, seed=seed, shard=Share(*shard), batch_size=batch_size, drop_last=drop_last
        )
        windows = None
        if crop is not None and epoch is not None:
            from fastdd_kernels import resample_parameters

            H, W = self.images.shape[2:]
            random = generator(seed, "crop", epoch)
            windows = resample_parameters(
                len(self), H, W, scale=crop.scale, ratio=crop.ratio, flip=crop.flip, generator=random
            )
        for rows in schedule.positions(epoch or 0).split(schedule.batch_size):
            if len(rows):
                here = rows.to(self.images.device)
                images = self.images[here]
                if windows is not None:
                    images = crop_and_flip(images, windows[rows])
                yield Batch(images, self.labels[here], self.indices[rows])


def resident(
    dataset: Dataset,
    size: tuple[int, int] | None,
    channels: Literal[1, 3] = 3,
    *,
    resize: int | None = None,
    indices: Sequence[int] | Tensor | None = None,
    device: str | torch.device = "cpu",
    on_error: OnError = "fail",
    backend: Backend = "auto",
    threads: int | None = None,
    is_shown: bool = True,
) -> Resident:
    """Decode a dataset, or a part of it, into the memory of a device.

    Args:
        size: (H, W), and all further arguments but the last, as for open_loader.
        is_shown: whether a progress bar tells how many are read.

    Raises:
        InputError: it does not fit, an image cannot be read, or an argument is not possible.
    """
    loader = open_loader(
        dataset,
        CHUNK,
        size,
        channels,
        resize=resize,
        indices=indices,
        on_error=on_error,
        backend=backend,
        threads=threads,
        device=device,
    )
    what = f"{len(loader)} images of {dataset.split}"
    _require(len(loader) * loader.shape.numel(), torch.device(device), what)
    images = torch.empty((len(loader), *loader.shape), dtype=torch.uint8, device=device)
    labels = [torch.empty(0, dtype=torch.int64, device=device)]
    kept = [torch.empty(0, dtype=torch.int64)]
    done = 0
    part = "" if len(loader) == len(dataset) else "part of "
    bar_or_none = progress(f"read {part}{dataset.split}", len(loader)) if is_shown else nullcontext()
    with bar_or_none as bar:
        for batch in loader:
            images[done : done + len(batch.images)] = batch.images
            labels.append(batch.labels)
            kept.append(batch.indices)
            done += len(batch.images)
            if bar is not None:
                bar.advance(len(batch.images) + len(batch.skipped))
    return Resident(images[:done], torch.cat(labels), torch.cat(kept), loader.skipped)


def _require(needed: int, device: torch.device, what: str) -> None:
    """Refuse what does not fit before it is allocated."""
    remedy = "set a smaller data.size, or read it batch by batch with open_loader"
    if device.type != "cuda":
        require_memory(needed, f"to hold {what}", remedy)
        return
    budget = device_budget(device)
    if needed > budget:
        raise InputError(
            f"{needed:,} bytes are needed to hold {what} on {device}, but {budget:,} may be used; {remedy}"
        )
