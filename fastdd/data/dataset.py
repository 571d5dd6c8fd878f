"""A split of a labelled image set: classes, labels and names at once, pixels when they are asked for.

Class order everywhere: all images of class 0, then all of class 1, and so on, sorted by name inside a class,
which is the order of ImageFolder. A stream in this order gives exact statistics of a class with `index_add_`
over the labels, and a class is a slice of a resident set. Cost: the index is one `stat` a file (or one pass
over an archive). The pixels come from loading/.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Literal, TypedDict

import torch
from torch import Tensor

from ..errors import InputError
from .sources.base import Fingerprint, FingerprintOf, ImageReader, Split

SplitName = Split | Literal["validation", "candidates"]
"""what a data set's splits are called, with the one that is taken from the training images, and images from
elsewhere under its classes"""


class DatasetSummary(TypedDict):
    """What a split holds, as data.json has it.

    Attributes:
        split: "train", "validation" or "test".
        classes: class names in the order of the labels.
    """

    layout: str
    split: SplitName
    images: int
    classes: list[str]
    counts: list[int]
    fingerprint: str
    fingerprint_of: FingerprintOf


class _Part:
    """Some of the images of a reader, renumbered."""

    def __init__(self, whole: ImageReader, kept: Sequence[int]) -> None:
        self.whole, self.kept, self.threads, self.layout = whole, kept, whole.threads, whole.layout
        self.sizes = whole.sizes

    def pixels(self, index: int, channels: int) -> Tensor:
        return self.whole.pixels(self.kept[index], channels)

    def encoded(self, index: int) -> bytearray | None:
        return self.whole.encoded(self.kept[index])


class Dataset:
    """One split; made by open_dataset.

    Args:
        split: "train", "validation" or "test".
        counts: images of each class by its name, in sorted order.
        names: "CLASS/FILE" of each image, in class order.

    Attributes:
        labels: int64 [N], ascending.
        fingerprint: sha256, hexadecimal. A folder and an archive of it have the same.
        fingerprint_of: what was hashed (see Fingerprint).
    """

    def __init__(
        self,
        split: SplitName,
        counts: dict[str, int],
        names: Sequence[str],
        fingerprint: Fingerprint,
        reader: ImageReader,
    ) -> None:
        self.split = split
        self.classes = tuple(counts)
        self.counts = tuple(counts.values())
        self.names = names
        self.fingerprint, self.fingerprint_of = fingerprint
        self.labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(self.counts))
        self.reader = reader

    def __len__(self) -> int:
        return len(self.names)

    def without(self, positions: Collection[int]) -> Dataset:
        """The same split without some images, such as the unreadable ones; the fingerprint stays.

        Raises:
            InputError: a class would be left without images.
        """
        lost = set(positions)
        kept = [index for index in range(len(self)) if index not in lost]
        left = Counter(self.labels[kept].tolist())
        counts = {name: left[label] for label, name in enumerate(self.classes)}
        if bare := [name for name, count in counts.items() if not count]:
            raise InputError(
                f"no image of class {bare[0]!r} of {self.split} can be read; mend or remove the class"
            )
        names = [self.names[index] for index in kept]
        fingerprint = Fingerprint(self.fingerprint, self.fingerprint_of)
        return Dataset(self.split, counts, names, fingerprint, reader=_Part(self.reader, kept))

    def part(self, positions: Sequence[int], split: SplitName) -> Dataset:
        """Some of the images as a split of its own, whose fingerprint tells which images they are.

        Args:
            positions: the images, ascending; a class may be left without any.
        """
        chosen = Counter(self.labels[list(positions)].tolist())
        counts = {name: chosen[label] for label, name in enumerate(self.classes)}
        names = [self.names[index] for index in positions]
        digest = hashlib.sha256(
            "\n".join([self.fingerprint, split, *names]).encode("utf-8", "surrogateescape")
        )
        fingerprint = Fingerprint(digest.hexdigest(), self.fingerprint_of)
        return Dataset(split, counts, names, fingerprint, reader=_Part(self.reader, positions))

    def under(self, own: Mapping[str, str], classes: Sequence[str]) -> Dataset:
        """The same images under other class names in another order; classes that are not named are left out.

        Args:
            own: new name -> the name that a class has here.
            classes: the new names in the order of the labels.
        """
        number = {name: label for label, name in enumerate(self.classes)}
        starts = [0, *accumulate(self.counts)]
        kept: list[int] = []
        for name in classes:
            label = number[own[name]]
            kept += range(starts[label], starts[label + 1])
        counts = {name: self.counts[number[own[name]]] for name in classes}
        names = [self.names[index] for index in kept]
        fingerprint = Fingerprint(self.fingerprint, self.fingerprint_of)
        return Dataset(self.split, counts, names, fingerprint, reader=_Part(self.reader, kept))


def summary(dataset: Dataset) -> DatasetSummary:
    """What a split holds, ready for JSON."""
    return {
        "layout": dataset.reader.layout,
        "split": dataset.split,
        "images": len(dataset),
        "classes": list(dataset.classes),
        "counts": list(dataset.counts),
        "fingerprint": dataset.fingerprint,
        "fingerprint_of": dataset.fingerprint_of,
    }
