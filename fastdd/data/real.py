"""The real images of a run: both splits, opened once, read in the sizes and ways that the recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..config import Recipe
from ..runtime.seeds import derive
from . import Dataset, Loader, open_dataset, open_loader, real_sample, resident, scan
from .loading.batch import Batch
from .sources.layout import Split


class Real:
    """Real images.

    Args:
        config: the recipe whose data these are.
        device: where decoded images live.

    Attributes:
        train, test_set: the splits; without the images that a scan found unreadable, where those are to be skipped.
        skipped: split -> those images, with reasons.
        chosen: the seeded choice of ipc training images a class, positions in class order.

    Raises:
        InputError: the data cannot be used.
    """

    def __init__(self, config: Recipe, device: torch.device) -> None:
        self.config, self.data, self.device = config, config.data, device
        self.skipped: dict[str, list[str]] = {}
        self.train, self.test_set = self._open("train"), self._open("test")
        self.chosen = self.choose(config.ipc)

    def _open(self, split: Split) -> Dataset:
        dataset = open_dataset(self.data.root, split, self.data.fingerprint)
        bad = dict(scan(dataset)) if self.data.on_error == "skip" else {}
        if bad:
            self.skipped[split] = list(bad.values())
        return dataset.without(bad) if bad else dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return self.train.classes

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) to which images are cut, None for those that are kept as stored."""
        return None if self.data.size is None else (self.data.size, self.data.size)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        loader = open_loader(self.train, 1, self.size, self.data.channels, indices=[0], backend="torchvision")
        channels, height, width = loader.shape
        return channels, height, width

    def images(self, dataset: Dataset, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """uint8 images and labels, on the device."""
        held = resident(
            dataset,
            self.size,
            self.data.channels,
            resize=self.data.resize,
            indices=indices,
            device=self.device,
            backend=self.data.backend,
        )
        return held.images, held.labels

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The held-out split."""
        return self.images(self.test_set)

    @cached_property
    def chosen_images(self) -> Tensor:
        """The chosen training images, [K * ipc, C, H, W] in class order."""
        return self.images(self.train, self.chosen)[0]

    def choose(self, count: int) -> Tensor:
        """The seeded choice of ``count`` training images a class, which begins with the smaller ones.

        Raises:
            InputError: a class has fewer.
        """
        return real_sample(self.train, count, derive(self.config.seed, "real"))

    def sample(self, count: int) -> Tensor:
        """Those images, [K * count, C, H, W] in class order."""
        if count == self.config.ipc:
            return self.chosen_images
        return self.images(self.train, self.choose(count))[0]

    def stream(self) -> RealImages:
        """The training images as the bank reads them: in class order, any part of them."""

        def loader(positions: range) -> Loader:
            return open_loader(
                self.train,
                self.config.bank.batch,
                self.size,
                self.data.channels,
                resize=self.data.resize,
                indices=positions,
                on_error=self.data.on_error,
                backend=self.data.backend,
                device=self.device,
            )

        transform = {
            "size": list(self.shape[1:]),
            "resize": self.data.resize,
            "backend": loader(range(0)).backend,
        }
        train = self.train
        return RealImages(self.shape, train.labels, train.names, train.fingerprint, transform, loader)


Stream = Callable[[range], Iterable[Batch]]
"""positions in the data set -> their images in order, in batches of ``bank.batch``"""


@dataclass(frozen=True)
class RealImages:
    """The data set as the bank sees it.

    Attributes:
        shape: (C, H, W) of an image.
        labels: int64 [N], ascending.
        names: of the images, for the list of those that were skipped.
        fingerprint: of the data set.
        transform: what was done to the images, for the manifest: backend, size, ...
        stream: reads a range of positions.
    """

    shape: tuple[int, int, int]
    labels: Tensor
    names: Sequence[str]
    fingerprint: str
    transform: dict[str, Any]
    stream: Stream

    @classmethod
    def in_memory(cls, images: Tensor, labels: Tensor, batch: int, fingerprint: str = "") -> RealImages:
        """Decoded images, uint8 [N, C, H, W] in class order, read in batches of ``batch``."""

        def stream(positions: range) -> Iterator[Batch]:
            for rows in torch.arange(positions.start, positions.stop).split(batch):
                yield Batch(images[rows], labels[rows], rows)

        names = [f"{c}/{index}" for index, c in enumerate(labels.tolist())]
        _, channels, height, width = images.shape
        return cls((channels, height, width), labels, names, fingerprint, {"size": [height, width]}, stream)
