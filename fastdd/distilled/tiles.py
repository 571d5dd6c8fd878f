"""Tiles: a stored image is cut into f x f tiles, and students see each tile enlarged (IDC, CIM).

Two kinds of formation have tiles. They are the same where f divides the sides of an image, and differ in how
sides that f does not divide are cut:

    zoom     tiles of ceil(H / f) x ceil(W / f) pixels; the last ones reach beyond the image, where they are
             grey, 0.5, as in IDC's released code
    cells    the first H mod f rows of tiles have a pixel more than floor(H / f), columns likewise, as in
             CIM's released code

A tile is enlarged to H x W as ``F.interpolate`` does it (bilinear, not aligned to corners), by matrix
products, whose gradient is deterministic. A stored image starts as a collage: f^2 images, each reduced to its
tile by nearest sampling.

IDC (Kim et al., ICML 2022). With 34 pixels and f = 3, the released start cuts tiles of 12, 11 and 11 pixels,
and its enlargement tiles of 12, 12 and 10; here both are the latter. All sides with a remainder of 0 or f - 1
agree. The released students of both methods see enlarged images unrounded, here they are rounded to 8 bits.
"""

from __future__ import annotations

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample

from ..config import Formation
from ..errors import InputError

KEY = "method.formation"
"""recipe key of a formation, where no arm is known"""
CHUNK = 16
"""stored images that are enlarged together, in float64, when a set is read"""
TIE = 1e-6
"""levels added before rounding, so that a tie goes up whatever the last bits of the weights are"""

FEWEST = {4: 16, 9: 32}
"""images in one -> the fewest pixels along a tile's side that need no note; more images are as 9. IDC puts
four into 32 pixels, and nine only into 224"""


def small_tiles(key: str, formation: Formation, size: tuple[int, int]) -> str:
    """What is said of tiles so small that they show little of an image; empty: they are large enough."""
    height, width = (max(sides) for sides in tile_sides(formation, size))
    if min(height, width) >= FEWEST[4 if formation.images <= 4 else 9]:
        return ""
    lower = f"{key}.images=4" if formation.images > 4 else f"{key}=null"
    return (
        f"note: {key}.images is {formation.images}, which leaves each image about {height} x {width} of "
        f"{size[0]} x {size[1]} pixels; set {lower}, or a larger data.size, to show more of it"
    )


def tile_sides(formation: Formation, size: tuple[int, int], key: str = KEY) -> tuple[list[int], list[int]]:
    """Pixels within a stored image of (H, W) of its tiles: heights from top to bottom, widths from left to
    right.

    Raises:
        InputError: the last tiles would lie wholly beyond the image.
    """
    f = formation.factor
    if formation.kind == "cells":
        heights, widths = ([side // f + (k < side % f) for k in range(f)] for side in size)
    else:
        heights, widths = ([-(-side // f)] * (f - 1) for side in size)
        heights, widths = [*heights, size[0] - sum(heights)], [*widths, size[1] - sum(widths)]
    if min(*heights, *widths) < 1:
        raise InputError(
            f"{key} cuts images of {size[0]} x {size[1]} pixels into {f} x {f} tiles of "
            f"{max(heights)} x {max(widths)}, so the last ones lie beyond the image; lower its images"
        )
    return heights, widths


def collage(images: Tensor, formation: Formation) -> Tensor:
    """Stored images made of images: each is reduced to one tile by nearest sampling.

    Args:
        images: [M f^2, C, H, W] of any dtype; those of one stored image follow each other, tile by tile from
            left to right and from top to bottom.

    Returns:
        [M, C, H, W] in the dtype of ``images``.
    """
    heights, widths = tile_sides(formation, (images.shape[2], images.shape[3]))
    tiles = images.unflatten(0, (-1, formation.factor, formation.factor))
    bands = [
        torch.cat([F.interpolate(tiles[:, i, j], (height, width)) for j, width in enumerate(widths)], dim=3)
        for i, height in enumerate(heights)
    ]
    return torch.cat(bands, dim=2)


def enlarged(stored: Tensor, formation: Formation, grey: Tensor | float) -> Tensor:
    """The images that stored images hold, one a tile; differentiable.

    Args:
        stored: float [M, C, H, W].
        grey: value beyond the image, a number or [C, 1, 1]: that of 0.5 in colors from 0 to 1.

    Returns:
        [M f^2, C, H, W], in the order of ``collage``. An image depends on its tile alone, to the bit.
    """
    size = (stored.shape[2], stored.shape[3])
    heights, widths = tile_sides(formation, size)
    # One group for each stored image, so that the sums do not depend on how many there are.
    groups = torch.zeros(len(stored), 3, dtype=torch.int64, device=stored.device)
    f, height, width = formation.factor, heights[0], widths[0]
    if formation.kind == "cells" and (heights[-1], widths[-1]) != (height, width):
        bands = (band.split(widths, dim=3) for band in stored.split(heights, dim=2))
        images = [resample(tile, groups, size) for tile in chain.from_iterable(bands)]
        return torch.stack(images, dim=1).flatten(0, 1)
    margin = (0, f * width - size[1], 0, f * height - size[0])
    beyond = F.pad(stored.new_zeros(size), margin, value=1.0)
    whole = F.pad(stored, margin) + grey * beyond
    tiles = whole.unflatten(3, (f, width)).unflatten(2, (f, height))
    return resample(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2), groups, size)


def unpack_tiles(stored: Tensor, formation: Formation) -> Tensor:
    """``enlarged`` for uint8 images [M, C, H, W]: uint8 [M f^2, C, H, W], rounded, ties upwards."""
    parts = [enlarged(part.double(), formation, 255 / 2) for part in stored.split(CHUNK)]
    return torch.cat([(part + (0.5 + TIE)).floor().clamp(0, 255).to(torch.uint8) for part in parts])
