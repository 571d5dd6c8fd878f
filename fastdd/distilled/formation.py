"""Formations: a stored image that holds several images, as their low frequencies or as tiles (tiles.py).

Students see ``formation.images`` times as many images as the set stores. With the kind ``frequencies`` each
channel x of an image, n x n pixels, is reduced to a plane of l x l pixels, from which it is enlarged again
when the set is read:

    plane = A x A',   A = sqrt(l / n) D_l' D_n[:l]    D_n: orthonormal DCT-II of n points, one row a frequency
    x~ = B plane B',  B = sqrt(n / l) D_n[:l]' D_l    A B = 1; x~ is x without its frequencies from l on

Colors are JPEG's full-range YCbCr, and the luma keeps more frequencies than the two chromas. The planes of
``formation.images`` images lie one after the other, row by row, in the bytes of one stored image [C, H, W];
the bytes that are left are zero. A stored image therefore looks like noise until it is unpacked.

IDC (Kim et al., ICML 2022) puts several images of lower resolution into one; FreD (Shin et al., NeurIPS 2023)
keeps frequencies. Cost: two small matrix products a channel, in each direction.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..config import Formation
from ..errors import InputError
from .tiles import KEY, tile_sides, unpack_tiles

YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]],
    dtype=torch.float64,
)
"""RGB to YCbCr with the chromas around zero (ITU-T T.871)"""
CHUNK = 64
"""stored images that are unpacked together, in float64"""
Size = tuple[int, int]


def check_formation(formation: Formation, shape: tuple[int, ...], key: str = KEY) -> None:
    """Refuse a formation, which the recipe has under ``key``, that stored images of shape [..., C, H, W]
    cannot hold."""
    if formation.tiled:
        tile_sides(formation, (shape[-2], shape[-1]), key)
    else:
        plane_sizes(formation, shape, key)


def unpack(stored: Tensor, formation: Formation) -> Tensor:
    """The images that stored images hold, as students see them.

    Args:
        stored: uint8 [M, C, H, W].

    Returns:
        uint8 [M * formation.images, C, H, W]; those of one stored image follow each other.
    """
    if formation.tiled:
        return unpack_tiles(stored, formation)
    sizes = plane_sizes(formation, stored.shape)
    return torch.cat([_unpack(part, formation.images, sizes) for part in stored.split(CHUNK)])


# -- low frequencies -------------------------------------------------------------------------------


def plane_sizes(formation: Formation, shape: tuple[int, ...], key: str = KEY) -> list[Size]:
    """(h, w) of the plane of each channel, for images of shape [..., C, H, W]."""
    channels, height, width = shape[-3:]
    luma, chroma = formation.shares
    shares = [luma] if channels == 1 else [luma, chroma, chroma]
    sizes = [(round(share * height), round(share * width)) for share in shares]
    numbers, room = formation.images * sum(h * w for h, w in sizes), channels * height * width
    kept = " and ".join(f"{h} x {w}" for h, w in sizes[:2])
    if min(min(size) for size in sizes) < 1:
        raise InputError(
            f"{key} keeps {kept} numbers of an image of {height} x {width} pixels, so nothing "
            "is left of a channel; raise luma or chroma"
        )
    if numbers > room:
        raise InputError(
            f"{key} keeps {kept} numbers of each of {formation.images} images, {numbers} bytes in "
            f"all, but a stored image of {height} x {width} pixels has {room} bytes; lower images, luma or "
            "chroma"
        )
    return sizes


def pack(images: Tensor, formation: Formation) -> Tensor:
    """Pack the low frequencies of images into stored ones.

    ``unpack`` is the inverse, without the frequencies that are cut off.

    Args:
        images: float [N, C, H, W] in [0, 1], where N is a multiple of ``formation.images``.

    Returns:
        The stored images, uint8 [N / formation.images, C, H, W].
    """
    sizes = plane_sizes(formation, images.shape)
    levels = 255 * _in_colors(images.double(), YCBCR.to(images.device))
    levels[:, 1:] += 128
    kept = []
    for channel, (h, w) in enumerate(sizes):
        rows, columns = (
            _reduction(n, side, images.device) for n, side in zip((h, w), images.shape[2:], strict=True)
        )
        kept.append((rows @ levels[:, channel] @ columns.T).flatten(1))
    numbers = torch.cat(kept, dim=1).round().clamp(0, 255).to(torch.uint8)
    stored = numbers.view(len(images) // formation.images, formation.images * numbers.shape[1])
    room = math.prod(images.shape[1:])
    return torch.nn.functional.pad(stored, (0, room - stored.shape[1])).view(len(stored), *images.shape[1:])


def _unpack(stored: Tensor, images: int, sizes: list[Size]) -> Tensor:
    ends = list(accumulate((h * w for h, w in sizes), initial=0))
    numbers = stored.flatten(1)[:, : images * ends[-1]].reshape(-1, ends[-1]).double()
    channels = []
    for (h, w), (start, end) in zip(sizes, pairwise(ends), strict=True):
        rows, columns = (
            _enlargement(n, side, stored.device) for n, side in zip((h, w), stored.shape[2:], strict=True)
        )
        channels.append(rows @ numbers[:, start:end].reshape(-1, h, w) @ columns.T)
    levels = torch.stack(channels, dim=1)
    levels[:, 1:] -= 128
    return _in_colors(levels, YCBCR.inverse().to(stored.device)).round().clamp(0, 255).to(torch.uint8)


class LowFrequencies:
    """The projection of images onto what ``unpack(pack(images))`` keeps, without rounding and clipping.

    Args:
        images: float [N, C, H, W], an example of the shape, dtype and device of the images to be projected.
    """

    def __init__(self, formation: Formation, images: Tensor) -> None:
        device = images.device
        self.projections = []
        for size in plane_sizes(formation, images.shape):
            rows, columns = (
                (_enlargement(n, side, device) @ _reduction(n, side, device)).to(images)
                for n, side in zip(size, images.shape[2:], strict=True)
            )
            self.projections.append((rows, columns))
        self.to_ycbcr, self.to_rgb = YCBCR.to(images), YCBCR.inverse().to(images)

    def __call__(self, images: Tensor) -> Tensor:
        """Project images, float [N, C, H, W] with black 0 and white 1."""
        levels = _in_colors(images, self.to_ycbcr)
        kept = [rows @ levels[:, c] @ columns.T for c, (rows, columns) in enumerate(self.projections)]
        return _in_colors(torch.stack(kept, dim=1), self.to_rgb)


def _in_colors(levels: Tensor, colors: Tensor) -> Tensor:
    """Levels [N, C, H, W] with each pixel multiplied by the matrix ``colors`` [3, 3]; grey stays grey."""
    return levels if levels.shape[1] == 1 else torch.einsum("dc,nchw->ndhw", colors, levels)


def _cosines(n: int, device: torch.device) -> Tensor:
    """The matrix D_n, float64 [n, n]."""
    i = torch.arange(n, dtype=torch.float64, device=device)
    rows = torch.cos(math.pi / (2 * n) * i[:, None] * (2 * i + 1)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows


def _reduction(kept: int, side: int, device: torch.device) -> Tensor:
    """The matrix A, float64 [kept, side]."""
    return math.sqrt(kept / side) * _cosines(kept, device).T @ _cosines(side, device)[:kept]


def _enlargement(kept: int, side: int, device: torch.device) -> Tensor:
    """The matrix B, float64 [side, kept]."""
    return math.sqrt(side / kept) * _cosines(side, device)[:kept].T @ _cosines(kept, device)
