"""The handwritten digits that come with scikit-learn: 1,797 real images, no download, no files.

8 x 8 pixels with values 0 to 16, scaled to 0 to 255; 10 classes of 174 to 183 images. The test split holds a
fifth of each class (rounded), drawn once with seed 0 and never changed: 1,438 training and 359 test images.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .base import Fingerprint, FingerprintOf, Layout, Split, SplitImages, register_source

NAME = "digits"

CLASSES = tuple("0123456789")
TEST_FRACTION = 0.2
SPLIT_SEED = 0


class DigitsLayout(Layout):
    """The root that is called ``digits``, even where a folder has that name."""

    priority = 50

    def recognizes(self, root: str) -> bool:
        """Whether the root is the word ``digits``."""
        return root == NAME

    def open(self, root: str, split: Split) -> SplitImages:
        """One split of the digits."""
        return Digits(split)


class Digits(SplitImages):
    """One split of the digits."""

    layout = "built in"

    def __init__(self, split: Split) -> None:
        self.split = split
        pixels, targets = _bundled()
        # RandomState is frozen by numpy: the split is the same with every version.
        random = np.random.RandomState(SPLIT_SEED)
        rows: list[int] = []
        self.counts: dict[str, int] = {}
        for label, name in enumerate(CLASSES):
            shuffled = random.permutation(np.flatnonzero(targets == label))
            held_out = round(TEST_FRACTION * len(shuffled))
            chosen = np.sort(shuffled[:held_out] if split == "test" else shuffled[held_out:])
            self.counts[name] = len(chosen)
            rows += chosen.tolist()
        self.names = [f"{targets[row]}/{row:04d}" for row in rows]
        self.images = torch.from_numpy(pixels[rows])

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, 8, 8]; the one channel is repeated for channels = 3."""
        return self.images[index].expand(channels, 8, 8)

    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """sha256 of the split and all pixels, whatever is wanted."""
        content = self.split.encode() + self.images.numpy().tobytes()
        return Fingerprint(hashlib.sha256(content).hexdigest(), "contents")


@cache
def _bundled() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797, 8, 8] pixels and [1797] targets."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


register_source(NAME, DigitsLayout())
