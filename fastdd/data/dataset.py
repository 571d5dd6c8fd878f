"""A split of a labelled image set: classes, labels and names at once, pixels when they are asked for.

Class order everywhere: all images of class 0, then all of class 1, and so on, sorted by name inside a
class, which is the order of ImageFolder. A stream in this order gives exact statistics of a class with
`index_add_` over the labels, and a class is a slice of a resident set.
Cost: the index is one `stat` a file (or one pass over an archive); pixels are decoded once for each call,
by the loader of loader.py.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import progress
from .memory import require_memory
from .tree import Split

FingerprintOf = Literal["names", "contents"]
CHUNK = 256  # images decoded between two steps of the progress bar


class Reader(Protocol):
    """Where pixels come from: an image by its number. layout: of which kind the data set is, in words."""

    threads: int
    layout: str

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, h, w] of one image, as stored."""

    def encoded(self, index: int) -> bytearray | None:
        """The bytes of the JPEG or PNG file of one image; None where images are not kept encoded."""


class _Part:
    """Some of the images of a reader, renumbered."""

    def __init__(self, whole: Reader, kept: Sequence[int]) -> None:
        self.whole, self.kept, self.threads, self.layout = whole, kept, whole.threads, whole.layout

    def pixels(self, index: int, channels: int) -> Tensor:
        return self.whole.pixels(self.kept[index], channels)

    def encoded(self, index: int) -> bytearray | None:
        return self.whole.encoded(self.kept[index])


class Dataset:
    """One split; made by open_dataset.

    Attributes:
        split: "train" or "test".
        classes: class names, sorted.
        labels: int64 [N], ascending.
        counts: images of each class.
        names: "class/file" of each image, for messages.
        fingerprint: sha256 (hex) of the split and of every (class, file name, size in bytes); a folder and
            an archive of it agree. Or with the contents of each file; or, where images come decoded, of the pixels.
        fingerprint_of: "names" or "contents".
        reader: where the pixels come from, for loaders.
    """

    def __init__(
        self,
        split: Split,
        counts: dict[str, int],
        names: Sequence[str],
        fingerprint: str,
        reader: Reader,
        fingerprint_of: FingerprintOf = "names",
    ) -> None:
        self.split = split
        self.classes = tuple(counts)
        self.counts = tuple(counts.values())
        self.names = names
        self.fingerprint = fingerprint
        self.fingerprint_of = fingerprint_of
        self.labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(self.counts))
        self.reader = reader

    def __len__(self) -> int:
        return len(self.names)

    def without(self, positions: Collection[int]) -> Dataset:
        """The same split but for some images, such as those that scan finds unreadable; the fingerprint stays.

        Raises:
            InputError: a class would be left without images.
        """
        lost = set(positions)
        kept = [index for index in range(len(self)) if index not in lost]
        left = Counter(int(c) for c in self.labels[kept].tolist())
        counts = {name: left[c] for c, name in enumerate(self.classes)}
        if bare := [name for name, count in counts.items() if not count]:
            raise InputError(f"no image of class {bare[0]!r} of {self.split} can be read; mend or remove the class")
        names, reader = [self.names[index] for index in kept], _Part(self.reader, kept)
        return Dataset(self.split, counts, names, self.fingerprint, reader, self.fingerprint_of)

    def images(
        self,
        size: tuple[int, int] | None,
        channels: Literal[1, 3] = 3,
        indices: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Decode images into memory, with a progress bar.

        Args:
            size: (H, W): images of another size are resized to cover it, with antialias, and cropped to
                their centre (see decode.fit); None: as stored.
            channels: 3 for RGB, 1 for luminance.
            indices: which images, in which order; None for all.

        Returns:
            uint8 [N, channels, H, W], contiguous.

        Raises:
            InputError: an unreadable image, different sizes with size None, or not enough memory.
        """
        from .loader import open_loader

        loader = open_loader(self, CHUNK, size, channels, indices=indices, backend="torchvision")
        needed = len(loader) * loader.shape.numel()
        require_memory(needed, f"to hold {len(loader)} images of {self.split}", "set a smaller data.size")
        out = torch.empty((len(loader), *loader.shape), dtype=torch.uint8)
        done = 0
        with progress(f"read {self.split}", len(loader)) as bar:
            for batch in loader:
                out[done : done + len(batch.images)] = batch.images
                done += len(batch.images)
                bar.advance(len(batch.images))
        return out

    def batches(
        self, batch_size: int, size: tuple[int, int] | None, channels: Literal[1, 3] = 3
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Stream the split once in class order; every image exactly once, the last batch may be smaller.

        The next batch is decoded while this one is used; two batches are in memory.

        Args:
            batch_size: images a batch, at least 1.
            size, channels: as for images().

        Yields:
            (uint8 [B, channels, H, W], int64 [B] labels)

        Raises:
            InputError: an unreadable image, or different sizes with size None.
        """
        from .loader import open_loader

        for batch in open_loader(self, batch_size, size, channels, backend="torchvision"):
            yield batch.images, batch.labels


def processors() -> int:
    """Processors this process may use: under a scheduler fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def real_sample(dataset: Dataset, per_class: int, seed: int) -> Tensor:
    """Draw real images without replacement, the same number of each class.

    A smaller per_class with the same seed draws a prefix of each class's sample, so that 1, 10 and 50
    images a class are nested.

    Args:
        dataset: where from.
        per_class: images a class, at least 1.
        seed: of the draw.

    Returns:
        int64 [classes * per_class] indices, class 0 first.

    Raises:
        InputError: a class holds fewer than per_class images.
    """
    if per_class < 1:
        raise InputError(f"{per_class} images per class is too few; expected at least 1")
    for name, count in zip(dataset.classes, dataset.counts, strict=True):
        if per_class > count:
            raise InputError(
                f"class {name!r} holds {count} images of {dataset.split}, fewer than the {per_class} "
                f"asked for; set ipc to {min(dataset.counts)} or less"
            )
    generator = torch.Generator().manual_seed(seed)
    first = 0
    drawn = []
    for count in dataset.counts:
        # A whole permutation whatever per_class is: this is what makes the samples nested.
        drawn.append(first + torch.randperm(count, generator=generator)[:per_class])
        first += count
    return torch.cat(drawn)


def proportional_sample(dataset: Dataset, wanted: int, seed: int) -> Tensor:
    """Draw real images without replacement, of each class its share of the set.

    Args:
        dataset: where from.
        wanted: images in all, at least 1.
        seed: of the draw.

    Returns:
        int64 indices in class order: ``wanted`` of them, and less than one a class more; all where the set has no more.
    """
    generator = torch.Generator().manual_seed(seed)
    first = 0
    drawn = []
    for count in dataset.counts:
        share = min(count, math.ceil(count * wanted / len(dataset)))
        drawn.append(first + torch.randperm(count, generator=generator)[:share].sort().values)
        first += count
    return torch.cat(drawn)
