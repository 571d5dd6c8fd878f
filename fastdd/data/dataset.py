"""A split of a labelled image set: classes, labels and names at once, pixels when they are asked for.

Class order everywhere: all images of class 0, then all of class 1, and so on, sorted by name inside a
class, which is the order of ImageFolder. A stream in this order gives exact statistics of a class with
`index_add_` over the labels, and a class is a slice of a resident set.
Cost: the index is one `stat` a file (or one pass over an archive). The pixels come from loading/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from .sources.layout import Split

FingerprintOf = Literal["names", "contents"]


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
            raise InputError(
                f"no image of class {bare[0]!r} of {self.split} can be read; mend or remove the class"
            )
        names, reader = [self.names[index] for index in kept], _Part(self.reader, kept)
        return Dataset(self.split, counts, names, self.fingerprint, reader, self.fingerprint_of)


def summary(dataset: Dataset) -> dict[str, Any]:
    """What a split holds, ready for JSON.

    Returns:
        layout (in words), split, images (their number), classes (names in the order of the labels), counts
        (images of each class), fingerprint (hex) and fingerprint_of ("names" or "contents").
    """
    return {
        "layout": dataset.reader.layout,
        "split": dataset.split,
        "images": len(dataset),
        "classes": list(dataset.classes),
        "counts": list(dataset.counts),
        "fingerprint": dataset.fingerprint,
        "fingerprint_of": dataset.fingerprint_of,
    }
