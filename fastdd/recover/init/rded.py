"""RDED: images tiled from crops of real ones that the teacher chooses; nothing is optimized.

From each of up to ``images`` images of a class, ``crops`` random squares are cut and resized to S / f. The
teacher scores them by cross-entropy, padded to S with the mean color. The best crop of each image remains,
and of these the ipc f^2 with the lowest loss, or with ``rank: medium`` those nearest in rank to the median;
f x f of them tile an image of S x S.

Crops are cut from whole images as they are stored, or with ``source: center`` from what the run reads of
them, at f times its size. ``resample`` cuts them on the device, one crop each of many images of a size in a
call. Only the choice is kept, a few numbers a slot; pixels are cut again when a slot is asked for. Cost:
images x crops forward passes a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from ...config import RDED
from ...errors import InputError
from ...models.build import as_input
from ...runtime.console import counted
from ...runtime.seeds import generator
from ...teachers import Teacher
from .selection import medium

CHUNK = 100
"""images scored together"""
ONE_CROP_SIDE = 64
"""pixels; with ``factor: auto``, images up to this side are one crop"""

Decode = Callable[[Tensor, int], Tensor]
"""(positions [n] in the data set, multiple) -> uint8 [n, C, H, W] on the device, with H and W that multiple
of the run's"""
Originals = Callable[[Tensor], list[Tensor]]
"""positions [n] in the data set -> n images uint8 [C, h, w] on the device, as they are stored"""


def factor_of(config: RDED, size: tuple[int, int]) -> int:
    """The number of crops along a side of an image of (H, W)."""
    if config.factor != "auto":
        if config.factor > min(size):
            raise InputError(
                f"rded.factor {config.factor} cuts images of {size[0]} x {size[1]} pixels to nothing; "
                f"lower it"
            )
        return config.factor
    return 1 if max(size) <= ONE_CROP_SIDE else 2


@dataclass(frozen=True)
class Mosaic:
    """Chooses and cuts the crops of a run.

    Attributes:
        decode: reads training images as the run does.
        originals: reads them as they are stored.
    """

    config: RDED
    teacher: Teacher
    decode: Decode
    originals: Originals
    _: KW_ONLY
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

        Returns:
            int64 [slots f^2, 8]: position in the data set, then the row of ``resample`` that cuts the crop.
        """
        wanted, random = slots * self.factor**2, generator(self.seed, "rded", c)
        pool = positions[torch.randperm(len(positions), generator=random)[: self.config.images]]
        if len(pool) < wanted:
            raise InputError(
                f"init rded makes {counted(slots, 'image')} of class {self.teacher.card.classes[c]!r} out "
                f"of {wanted} "
                f"crops, one an image, but looks at {len(pool)} of its {len(positions)} images; lower ipc or "
                f"rded.factor" + (", or raise rded.images" if len(pool) < len(positions) else "")
            )
        draws, losses = [], []
        for part in pool.split(CHUNK):
            images, crops = self._read(part), []
            for same in images:
                draws.append(self._draw(len(same), same.shape[2], same.shape[3], random))
                normal = self.teacher.normalize(same)
                each = [resample(normal, rows, self.crop_size) for rows in draws[-1].unbind(1)]
                crops.append(torch.stack(each))
            losses.append(torch.stack([self._loss(each, c) for each in torch.cat(crops, dim=1)], dim=1))
        loss, best = torch.cat(losses).min(1)
        by_rank = self.config.rank == "medium"
        order = medium(-loss, wanted) if by_rank else loss.sort(stable=True).indices[:wanted]
        rows = torch.cat(draws)[torch.arange(len(pool)), best]
        return torch.cat((pool[:, None], rows), dim=1)[order]

    def _read(self, positions: Tensor) -> list[Tensor]:
        """The images that crops are cut from, in order, as tensors uint8 [n, C, h, w] of one size each.

        There is one tensor, or one an image where they differ in size.
        """
        if self.config.source == "center":
            return [self.decode(positions, self.factor)]
        images = self.originals(positions)
        alike = len({image.shape for image in images}) == 1
        return [torch.stack(images)] if alike else [image[None] for image in images]

    def _draw(self, count: int, height: int, width: int, random: torch.Generator) -> Tensor:
        """Rows of ``resample`` for random crops of ``count`` images, int64 [count, crops, 7]."""
        crops = self.config.crops
        drawn = resample_parameters(
            count * crops, height, width, scale=self.config.area, ratio=(1, 1), flip=0, generator=random
        )
        return drawn.view(count, crops, -1)

    def _loss(self, crops: Tensor, c: int) -> Tensor:
        """Cross-entropy [n] of normalized crops [n, C, s, s], on the CPU."""
        high, wide = self.size[0] - crops.shape[2], self.size[1] - crops.shape[3]
        padded = F.pad(crops, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        logits = self.teacher.network(as_input(padded, self.teacher.network)).float()
        return F.cross_entropy(
            logits, logits.new_full((len(logits),), c, dtype=torch.long), reduction="none"
        ).cpu()

    def cut(self, choice: Tensor, slots: int, wanted: list[int]) -> Tensor:
        """The images of some slots of a class; as released, tile k of slot s has crop k ``slots`` + s.

        Returns:
            uint8 [len(wanted), C, H, W].
        """
        f, n = self.factor, len(wanted)
        ranks = (torch.arange(f * f)[:, None] * slots + torch.tensor(wanted)).flatten()
        images = self._read(choice[ranks, 0])
        rows = choice[ranks, 1:].split([len(same) for same in images])
        cut = [resample(same.float(), own, self.crop_size) for same, own in zip(images, rows, strict=True)]
        crops = torch.cat(cut).round().clamp(0, 255)
        tiles = crops.view(f, f, n, *crops.shape[1:])
        heights, widths = (_parts(side, f) for side in self.size)
        bands = [
            torch.cat([F.interpolate(tiles[i, j], (height, width)) for j, width in enumerate(widths)], dim=3)
            for i, height in enumerate(heights)
        ]
        return torch.cat(bands, dim=2).to(torch.uint8)


def _parts(side: int, parts: int) -> list[int]:
    """Pixels of each tile along a side; where they do not divide it, the first tiles are a pixel larger."""
    return [side // parts + (i < side % parts) for i in range(parts)]
