"""How many images data sets have where they are published, by which a part of one is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple


class PublishedSize(NamedTuple):
    """The published size of a data set.

    Attributes:
        classes, train, test: numbers of classes, of training images and of test images.
        side: pixels of a side as networks see an image.
        stored: pixels of a stored image; most of ImageNet's are near 500 x 375.
    """

    classes: int
    train: int
    test: int
    side: int
    stored: int


SIZES = {
    "cifar10": PublishedSize(10, 50_000, 10_000, 32, stored=32 * 32),
    "cifar100": PublishedSize(100, 50_000, 10_000, 32, stored=32 * 32),
    "tiny": PublishedSize(200, 100_000, 10_000, 64, stored=64 * 64),
    "imagenette": PublishedSize(10, 9_469, 3_925, 224, stored=500 * 375),
    "imagenet1k": PublishedSize(1_000, 1_281_167, 50_000, 224, stored=500 * 375),
}
"""sizes by the names that recipes have for data sets"""
OTHER_NAMES = {"tinyimagenet": "tiny", "tinyimagenet200": "tiny", "imagenet": "imagenet1k"}
"""names that folders and archives have, in letters and digits alone"""
CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


def published_size(root: str, classes: Sequence[str]) -> tuple[str, PublishedSize] | None:
    """The data set that real images seem to be, by the name of their folder or archive, or by their classes.

    Returns:
        Its name and its published size; None: it is none that is known here.
    """
    stem = re.sub(r"[^a-z0-9]", "", PurePath(root).name.partition(".")[0].lower())
    names = [name for name in SIZES if stem.startswith(name) and not stem[len(name) :][:1].isdigit()]
    name = OTHER_NAMES.get(stem, names[0] if names else "")
    if set(classes) == CIFAR10:
        name = "cifar10"
    elif len(classes) == 1_000 and all(re.fullmatch(r"n\d{8}", each) for each in classes):
        name = "imagenet1k"
    return (name, SIZES[name]) if name in SIZES and SIZES[name].classes == len(classes) else None
