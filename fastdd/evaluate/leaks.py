"""Test images in a set: one that is there, or next to equal, makes accuracies on the test images worthless.

A set image s is taken for a copy of a test image t where the root mean square of s - t is at most a quarter
of the standard deviation of t's pixels. Of 6,000 training images of CIFAR-10 none is so near to a test image;
the same image saved once more as a JPEG is at about a tenth.

The nearest test image is sought among means of patches, 8 x 8 of them, plain and mirrored. Means differ by no
more than the pixels do, so pixels are compared, and decoded again, only where means are near enough. Cost:
n m 64 C multiplications for n images and m test images; in memory are the means, 256 C bytes an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import Dataset, open_loader
from ..runtime.console import counted
from ..runtime.progress import progress

BATCH = 500
"""test images that are compared at a time"""
COPY = 0.25
"""largest distance of a copy, as a part of the contrast of the test image"""
PATCHES = 8
"""patches on a side whose means are compared first"""
ROWS = 4096
"""rows of a tile of distances"""
DECODED = 256
"""images of a set that are decoded together"""
SHOWN = 3
"""examples that are named"""


class Copy(NamedTuple):
    """A set image and the test image of which it is next to a copy.

    Attributes:
        image, test: their positions.
        distance: root mean square of the difference, as a part of the test image's contrast.
        mirrored: whether the set's image is the mirrored one.
    """

    image: int
    test: int
    distance: float
    mirrored: bool


@dataclass(frozen=True)
class Searched:
    """A set in which copies are looked for.

    Attributes:
        patches: means of the patches of its images, plain and mirrored, each float32 [N, 64 C].
        pixels: decodes some images, given by their positions: uint8 [n, C, H, W].
        nearest: float32 [N], the distance to the nearest test image so far.
    """

    patches: tuple[Tensor, Tensor]
    pixels: Callable[[Tensor], Tensor]
    nearest: Tensor
    copies: dict[int, Copy] = field(default_factory=dict)

    @staticmethod
    def of(batches: Iterable[Tensor], pixels: Callable[[Tensor], Tensor]) -> Searched:
        """A set whose images come in batches, uint8 [B, C, H, W]."""
        parts = [(patches_of(images), patches_of(images.flip(3))) for images in batches]
        empty = torch.empty(0, 0)
        plain, mirrored = (torch.cat(side) for side in zip(*parts, strict=True)) if parts else (empty, empty)
        return Searched((plain, mirrored), pixels, torch.full((len(plain),), torch.inf))

    def anew(self) -> Searched:
        """The same set, before anything was compared."""
        return Searched(self.patches, self.pixels, torch.full_like(self.nearest, torch.inf))

    def compare(self, shown: Tensor, positions: Tensor) -> None:
        """Note the images that are next to copies of test images.

        Args:
            shown: test images of the same size, uint8 [B, C, H, W].
            positions: int64 [B], their positions.
        """
        patches = patches_of(shown)
        # the contrast of a plain image is taken for one grey level
        limits = COPY * shown.float().std(dim=(1, 2, 3)).nan_to_num().clamp(min=1.0)
        reach = limits * _overlap(shown) + 1.0  # a grey level for the rounding of cdist
        for mirrored, own in enumerate(self.patches):
            for first in range(0, len(own), ROWS):
                distance, place = torch.cdist(own[first : first + ROWS], patches).min(1)
                near = (distance / math.sqrt(patches.shape[1]) <= reach[place]).nonzero()[:, 0]
                for rows in near.split(DECODED) if len(near) else ():
                    images = self.pixels(first + rows)
                    images = images.flip(3) if mirrored else images
                    off = (images.float() - shown[place[rows]].float()).square().mean(dim=(1, 2, 3)).sqrt()
                    off *= COPY / limits[place[rows]]
                    for row, value in zip((first + rows).tolist(), off.tolist(), strict=True):
                        if value < float(self.nearest[row]):
                            self.nearest[row] = value
                            if value <= COPY:
                                test = int(positions[place[row - first]])
                                self.copies[row] = Copy(row, test, value, bool(mirrored))


def patches_of(images: Tensor) -> Tensor:
    """Means of patches, float32 [N, 64 C]; of images smaller than 8 pixels the pixels."""
    H, W = images.shape[2:]
    return F.adaptive_avg_pool2d(images.float(), (min(H, PATCHES), min(W, PATCHES))).flatten(1)


def _overlap(images: Tensor) -> float:
    """By how much means of patches may differ more than pixels do: patches that share pixels weigh a pixel at
    most twice on each side, and the square root of that four counts."""
    return 1.0 if all(side <= PATCHES or side % PATCHES == 0 for side in images.shape[2:]) else 2.0


def copies_of_test_images(
    sets: Mapping[str, Searched],
    test: Dataset,
    shape: tuple[int, int, int],
    *,
    resize: int | None = None,
    saw: Callable[[Tensor], object] | None = None,
) -> dict[str, list[Copy]]:
    """The images of some sets that are next to copies of test images, which are decoded once for all sets.

    Args:
        resize: shorter side to which test images are resized before the center is cut out; None: whatever
            just covers (H, W).
        saw: is called with each batch of test images.

    Returns:
        For each set one for each such image, by position; of several test images the nearest.
    """
    channels, height, width = shape
    loader = open_loader(
        test, BATCH, (height, width), 1 if channels == 1 else 3, resize=resize, backend="torchvision"
    )
    with progress(f"compare {test.split}", len(test)) as bar:
        for batch in loader:
            if saw is not None:
                saw(batch.images)
            for searched in sets.values():
                searched.compare(batch.images, batch.indices)
            bar.advance(len(batch.images))
    return {name: [each.copies[row] for row in sorted(each.copies)] for name, each in sets.items()}


def leak_text(found: Sequence[Copy], name_of: Callable[[int], str], count: int, test: Dataset) -> str:
    """What is said of copies, of which there are some.

    Args:
        name_of: gives the name of the set's image at a position.
    """
    some = "; ".join(
        f"{name_of(each.image)} is {'mirrored ' * each.mirrored}{test.names[each.test]}"
        for each in found[:SHOWN]
    )
    more = "; and more" if len(found) > SHOWN else ""
    return (
        f"{len(found)} of {counted(count, 'image')} are copies of {test.split} images, or next to them: "
        f"{some}{more}"
    )
