"""The training crop of torchvision's RandomResizedCrop and horizontal flip, with draws of our own.

The numbers of an image depend on (seed, epoch, position in the dataset) and on nothing else, through a
counter-based generator: every backend cuts the same window, whichever batch, thread or rank reads the
image, and a pass resumed in its middle needs no state. Cost: 25 us an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torchvision.transforms.v2.functional as functional
from torch import Tensor

from ...errors import InputError
from ...runtime.seeds import derive

TRIES = 10  # as torchvision, which then takes the largest central window of an allowed ratio


class Window(NamedTuple):
    """A part of an image, in its pixels, and whether it is mirrored afterwards."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


@dataclass(frozen=True)
class Crop:
    """A random window, resized to the size asked for.

    Args:
        scale: range of the window's share of the area, 0 < low <= high <= 1.
        ratio: range of its width / height, drawn uniformly in the logarithm.

    Raises:
        InputError: one of them is out of range.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(
                f"crop scale {self.scale!r} is not possible; expected (low, high), 0 < low <= high <= 1"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(
                f"crop ratio {self.ratio!r} is not possible; expected (low, high), 0 < low <= high"
            )
        if not 0 <= self.flip <= 1:
            raise InputError(f"crop flip {self.flip!r} is not a probability; expected 0 to 1")

    def window(self, height: int, width: int, *, seed: int, epoch: int, position: int) -> Window:
        """The window of one image in one epoch."""
        key = derive(seed, "crop", epoch)
        # 2**64 counter blocks an image, so no two images share a number; the top 53 bits make a float in
        # [0, 1).
        raw = np.random.Philox(key=key, counter=[0, position, 0, 0]).random_raw(2 * TRIES + 3)
        uniform = ((raw >> np.uint64(11)) * 2.0**-53).tolist()
        flip = uniform[-1] < self.flip
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for share, aspect in zip(uniform[:TRIES], uniform[TRIES : 2 * TRIES], strict=True):
            area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * share)
            ratio = math.exp(low + (high - low) * aspect)
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(uniform[-3] * (height - h + 1)), int(uniform[-2] * (width - w + 1))
                return Window(top, left, height=h, width=w, flip=flip)
        h, w = height, width
        if width / height < self.ratio[0]:
            h = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            w = max(1, round(height * self.ratio[1]))
        return Window((height - h) // 2, (width - w) // 2, height=h, width=w, flip=flip)


def cut(image: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Crop a window of a uint8 image [C, h, w], resize it to ``size`` and mirror it if it says so."""
    image = functional.resized_crop(image, *window[:4], size=list(size), antialias=True)
    return image.flip(-1) if window.flip else image
