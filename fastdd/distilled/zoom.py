"""Zoom: a stored image is cut into f x f tiles, and students see each tile enlarged (IDC).

    tile (i, j) of [C, H, W]:  rows i h ... (i + 1) h - 1 and columns j w ... (j + 1) w - 1
                               h = ceil(H / f), w = ceil(W / f)

Where f does not divide a side, the last tiles reach beyond the image; there they are grey, 0.5, as in the
released code. A tile is enlarged to H x W as ``F.interpolate`` does it (bilinear, not aligned to corners), by
matrix products, whose gradient is deterministic. A stored image starts as a collage: f^2 images, each reduced
to its tile by nearest sampling (IDC's start "mix").

IDC (Kim et al., ICML 2022). With 34 pixels and f = 3, the released start cuts tiles of 12, 11 and 11 pixels,
and its enlargement tiles of 12, 12 and 10; here both are the latter. All sides with a remainder of 0 or f - 1
agree. The released students see enlarged images unrounded, here they are rounded to 8 bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample

from ..errors import InputError

CHUNK = 16
"""stored images that are enlarged together, in float64, when a set is read"""
TIE = 1e-6
"""levels added before rounding, so that a tie goes up whatever the last bits of the weights are"""


def tile_size(factor: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of a tile of stored images of (H, W) pixels that are cut into ``factor`` tiles along a side.

    Raises:
        InputError: the last tiles would lie wholly beyond the image.
    """
    height, width = (-(-side // factor) for side in size)
    if (factor - 1) * height >= size[0] or (factor - 1) * width >= size[1]:
        raise InputError(
            f"method.formation cuts images of {size[0]} x {size[1]} pixels into {factor} x {factor} tiles of "
            f"{height} x {width}, so the last ones lie beyond the image; lower its images"
        )
    return height, width


def collage(images: Tensor, factor: int) -> Tensor:
    """Stored images made of images: each is reduced to one tile by nearest sampling.

    Args:
        images: [M factor^2, C, H, W] of any dtype; those of one stored image follow each other, tile by tile
            from left to right and from top to bottom.
        factor: tiles along a side, f.

    Returns:
        [M, C, H, W] in the dtype of ``images``.

    Raises:
        InputError: see ``tile_size``.
    """
    size = (images.shape[2], images.shape[3])
    heights, widths = (
        [min(tile, side - k * tile) for k in range(factor)]
        for tile, side in zip(tile_size(factor, size), size, strict=True)
    )
    tiles = images.unflatten(0, (-1, factor, factor))
    bands = [
        torch.cat([F.interpolate(tiles[:, i, j], (height, width)) for j, width in enumerate(widths)], dim=3)
        for i, height in enumerate(heights)
    ]
    return torch.cat(bands, dim=2)


def enlarged(stored: Tensor, factor: int, grey: Tensor | float) -> Tensor:
    """The images that stored images hold, one a tile; differentiable.

    Args:
        stored: float [M, C, H, W].
        factor: tiles along a side, f.
        grey: value beyond the image, a number or [C, 1, 1]: that of 0.5 in colors from 0 to 1.

    Returns:
        [M factor^2, C, H, W], in the order of ``collage``. An image depends on its tile alone, to the bit.

    Raises:
        InputError: see ``tile_size``.
    """
    size = (stored.shape[2], stored.shape[3])
    height, width = tile_size(factor, size)
    margin = (0, factor * width - size[1], 0, factor * height - size[0])
    beyond = F.pad(stored.new_zeros(size), margin, value=1.0)
    whole = F.pad(stored, margin) + grey * beyond
    tiles = whole.unflatten(3, (factor, width)).unflatten(2, (factor, height))
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    # One group for each stored image, so that the sums do not depend on how many there are.
    whole_tiles = torch.zeros(len(stored), 3, dtype=torch.int64, device=stored.device)
    return resample(tiles, whole_tiles, size)


def unpack_tiles(stored: Tensor, factor: int) -> Tensor:
    """``enlarged`` for uint8 images [M, C, H, W]: uint8 [M factor^2, C, H, W], rounded, ties upwards."""
    parts = [enlarged(part.double(), factor, 255 / 2) for part in stored.split(CHUNK)]
    return torch.cat([(part + (0.5 + TIE)).floor().clamp(0, 255).to(torch.uint8) for part in parts])
