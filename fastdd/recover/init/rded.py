"""RDED: images put together from the most realistic crops of real ones; nothing is optimized.

Of up to ``images`` images of a class ``crops`` random squares each are resized to S / f, padded with zeros (grey after
normalization) to S and scored by the teacher's cross-entropy. The best crop of each image remains, and of these the
ipc f^2 with the lowest loss; f x f of them tile an image of S x S.

Crops are cut by ``resample``, one call for each crop of many images, on the device. Images are read at f times the size
of the run, so that a crop is as sharp as one of the original. Only the choice is kept, a few numbers a slot; pixels are
cut again when a slot is asked for. Cost: images x crops forward passes a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from ...config import Mosaic as MosaicConfig
from ...errors import InputError
from ...runtime.seeds import generator
from ...teachers import Teacher

CHUNK = 100  # images scored together
SMALL = 64  # pixels: images up to this side are one crop each

Decode = Callable[[Tensor, int], Tensor]
"""positions [n] in the data set, times -> uint8 [n, C, H, W] on the device, of ``times`` the run's height and width"""


def factor_of(config: MosaicConfig, size: tuple[int, int]) -> int:
    """Crops along a side of an image of (H, W).

    Raises:
        InputError: more than pixels.
    """
    if config.factor != "auto":
        if config.factor > min(size):
            raise InputError(
                f"rded.factor {config.factor} cuts images of {size[0]} x {size[1]} pixels to nothing"
            )
        return config.factor
    return 1 if max(size) <= SMALL else 2


@dataclass(frozen=True)
class Mosaic:
    """Chooses and cuts the crops of a run.

    Attributes:
        config: how many, and of which area.
        teacher: that scores.
        decode: reads real images.
        size: (H, W) of the images that are made.
        seed: of the choice of images and crops.
    """

    config: MosaicConfig
    teacher: Teacher
    decode: Decode
    size: tuple[int, int]
    seed: int

    @property
    def factor(self) -> int:
        return factor_of(self.config, self.size)

    @property
    def crop_size(self) -> tuple[int, int]:
        return self.size[0] // self.factor, self.size[1] // self.factor

    @torch.no_grad()
    def choose(self, c: int, positions: Tensor, slots: int) -> Tensor:
        """The crops of a class, best first.

        Args:
            c: the class.
            positions: [n] of its images in the data set.
            slots: images to be made.

        Returns:
            int64 [slots f^2, 8]: position in the data set, and the row of ``resample`` that cuts the crop.

        Raises:
            InputError: the class has too few images.
        """
        wanted, random = slots * self.factor**2, generator(self.seed, "rded", c)
        pool = positions[torch.randperm(len(positions), generator=random)[: self.config.images]]
        if len(pool) < wanted:
            raise InputError(
                f"init rded makes {slots} images of class {self.teacher.card.classes[c]!r} out of {wanted} crops, one "
                f"an image, but looks at {len(pool)} of its {len(positions)} images; lower ipc or rded.factor"
                + (", or raise rded.images" if len(pool) < len(positions) else "")
            )
        draws, losses = [], []
        for part in pool.split(CHUNK):
            images = self.decode(part, self.factor)
            drawn = self._draw(len(part), images.shape[2], images.shape[3], random)
            normal = self.teacher.normalize(images)
            losses.append(torch.stack([self._loss(normal, rows, c) for rows in drawn.unbind(1)], dim=1))
            draws.append(drawn)
        loss, best = torch.cat(losses).min(1)
        order = loss.sort(stable=True).indices[:wanted]
        rows = torch.cat(draws)[torch.arange(len(pool)), best]
        return torch.cat((pool[:, None], rows), dim=1)[order]

    def _draw(self, count: int, height: int, width: int, random: torch.Generator) -> Tensor:
        """[count, crops, 7]"""
        crops = self.config.crops
        drawn = resample_parameters(
            count * crops, height, width, self.config.area, ratio=(1, 1), flip=0, generator=random
        )
        return drawn.view(count, crops, -1)

    def _loss(self, images: Tensor, rows: Tensor, c: int) -> Tensor:
        """Cross-entropy [n], on the CPU, of one crop of each normalized image."""
        crops = resample(images, rows, self.crop_size)
        high, wide = self.size[0] - crops.shape[2], self.size[1] - crops.shape[3]
        padded = F.pad(crops, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        logits = self.teacher.network(padded.contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(
            logits, logits.new_full((len(logits),), c, dtype=torch.long), reduction="none"
        ).cpu()

    def cut(self, choice: Tensor, slots: int, wanted: list[int]) -> Tensor:
        """Images of some slots of a class: tile k of slot s is the crop of rank k slots + s, as in the released code.

        Args:
            choice: of the class, from choose().
            slots: images of the class.
            wanted: slots.

        Returns:
            uint8 [len(wanted), C, H, W].
        """
        f, n = self.factor, len(wanted)
        ranks = (torch.arange(f * f)[:, None] * slots + torch.tensor(wanted)).flatten()
        images = self.decode(choice[ranks, 0], f).float()
        crops = resample(images, choice[ranks, 1:], self.crop_size).round().clamp(0, 255)
        tiles = crops.view(f, f, n, *crops.shape[1:])
        heights, widths = (_parts(side, f) for side in self.size)
        bands = [
            torch.cat([F.interpolate(tiles[i, j], (height, width)) for j, width in enumerate(widths)], dim=3)
            for i, height in enumerate(heights)
        ]
        return torch.cat(bands, dim=2).to(torch.uint8)


def _parts(side: int, parts: int) -> list[int]:
    """Pixels of each tile; where they do not divide the side, the first tiles are a pixel larger."""
    return [side // parts + (i < side % parts) for i in range(parts)]
