"""Batches of decoded images, and the loader that gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ..dataset import Dataset

Backend = Literal["auto", "dali", "torchvision"]
OnError = Literal["fail", "skip"]


class Batch(NamedTuple):
    """Some images of a pass.

    Attributes:
        images: uint8 [B, C, H, W], contiguous, on the loader's device.
        labels: int64 [B], on the same device.
        indices: int64 [B] positions in the dataset, on the CPU.
        skipped: positions of this batch that could not be read; B is smaller by their number.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    skipped: tuple[int, ...] = ()


class Loader(Protocol):
    """One shard of a dataset, read pass after pass.

    Iterating gives the rest of the current pass and then moves on to the next epoch; a loop that is left
    early goes on after the last batch it was given. A batch of which no image could be read is empty.

    Attributes:
        dataset: where the images come from.
        backend: name and version of the decoder, such as "torchvision 0.29.2" or "dali 2.4.0".
        shape: [C, H, W] of an image.
        skipped: position in the dataset to reason, of all passes.
    """

    dataset: Dataset
    backend: str
    shape: torch.Size
    skipped: dict[int, str]

    def __len__(self) -> int:
        """Number of images in one pass of this shard, unreadable ones included."""

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands, after the last batch it gave; a few integers."""

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there: the batches that follow are the same, bit for bit.

        Raises:
            InputError: the state is that of a loader of other images or another seed.
        """
