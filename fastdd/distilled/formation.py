"""Formations: several images in the pixels of one, as their low frequencies.

    plane = A x A',   A = sqrt(l / n) D_l' D_n[:l]          D_n: the orthonormal DCT-II of n points, a row a frequency
    x~ = B plane B',  B = sqrt(n / l) D_n[:l]' D_l          A B = 1, and x~ is x without its other frequencies

A plane is what is left of a channel, as an image of l x l pixels; luma keeps more of it than the two chromas (JPEG's
full-range YCbCr). The planes of ``images`` images lie one after the other, row by row, in the bytes of a stored image
[C, H, W], the rest of it zero. So a set of m formed images takes as many bytes as one of m / images, and looks like
noise until it is unpacked. After IDC (Kim et al., ICML 2022), which lowers the resolution instead, and FreD (Shin et
al., NeurIPS 2023), which keeps frequencies.

Cost: two small matrix products a channel and direction.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ..config import Formation
from ..errors import InputError

YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]],
    dtype=torch.float64,
)
"""of RGB, chroma around zero"""
Size = tuple[int, int]
CHUNK = 64
"""stored images unpacked together, in float64"""


def formation_of(method: dict[str, Any]) -> Formation | None:
    """Of a method as a run's recipe.yaml has it."""
    said = method.get("formation")
    return None if said is None else Formation.model_validate(said)


def planes(formation: Formation, shape: tuple[int, ...]) -> list[Size]:
    """(h, w) of what is kept of each channel of images [..., C, H, W].

    Raises:
        InputError: they do not fit into a stored image, or nothing would be left of a channel.
    """
    channels, height, width = shape[-3:]
    shares = [formation.luma] if channels == 1 else [formation.luma, formation.chroma, formation.chroma]
    sizes = [(round(share * height), round(share * width)) for share in shares]
    numbers, room = formation.images * sum(h * w for h, w in sizes), channels * height * width
    kept = " and ".join(f"{h} x {w}" for h, w in sizes[:2])
    if min(min(size) for size in sizes) < 1 or numbers > room:
        raise InputError(
            f"method.formation keeps {kept} of images of {height} x {width} pixels, {formation.images} of them take "
            f"{numbers} bytes and a stored image has {room}; change its images, luma or chroma"
        )
    return sizes


def pack(images: Tensor, formation: Formation) -> Tensor:
    """Form images.

    Args:
        images: in [0, 1], [N, C, H, W]; N is a multiple of formation.images.

    Returns:
        uint8 [N / formation.images, C, H, W] of stored images.
    """
    sizes = planes(formation, images.shape)
    levels = 255 * _turned(images.double(), YCBCR.to(images.device))
    levels[:, 1:] += 128
    kept = []
    for channel, (h, w) in enumerate(sizes):
        down, across = (
            _down(n, side, images.device) for n, side in zip((h, w), images.shape[2:], strict=True)
        )
        kept.append((down @ levels[:, channel] @ across.T).flatten(1))
    numbers = torch.cat(kept, dim=1).round().clamp(0, 255).to(torch.uint8)
    stored = numbers.view(len(images) // formation.images, formation.images * numbers.shape[1])
    room = math.prod(images.shape[1:])
    return torch.nn.functional.pad(stored, (0, room - stored.shape[1])).view(len(stored), *images.shape[1:])


def unpack(stored: Tensor, formation: Formation) -> Tensor:
    """The inverse of pack, but for the frequencies that it cuts off.

    Args:
        stored: uint8 [M, C, H, W].

    Returns:
        uint8 [M * formation.images, C, H, W], those of a stored image one after the other.
    """
    sizes = planes(formation, stored.shape)
    return torch.cat([_unpack(part, formation.images, sizes) for part in stored.split(CHUNK)])


def _unpack(stored: Tensor, images: int, sizes: list[Size]) -> Tensor:
    ends = list(accumulate((h * w for h, w in sizes), initial=0))
    numbers = stored.flatten(1)[:, : images * ends[-1]].reshape(-1, ends[-1]).double()
    channels = []
    for (h, w), (start, end) in zip(sizes, pairwise(ends), strict=True):
        down, across = (_up(n, side, stored.device) for n, side in zip((h, w), stored.shape[2:], strict=True))
        channels.append(down @ numbers[:, start:end].reshape(-1, h, w) @ across.T)
    levels = torch.stack(channels, dim=1)
    levels[:, 1:] -= 128
    return _turned(levels, YCBCR.inverse().to(stored.device)).round().clamp(0, 255).to(torch.uint8)


class LowFrequencies:
    """What unpack(pack(images)) keeps of images, without rounding and clipping: a projection.

    Args:
        images: float [N, C, H, W]; of their shape, dtype and device will be what is projected.
    """

    def __init__(self, formation: Formation, images: Tensor) -> None:
        device = images.device
        self.passes = [
            [
                (_up(n, side, device) @ _down(n, side, device)).to(images)
                for n, side in zip(size, images.shape[2:], strict=True)
            ]
            for size in planes(formation, images.shape)
        ]
        self.turn, self.back = YCBCR.to(images), YCBCR.inverse().to(images)

    def __call__(self, images: Tensor) -> Tensor:
        """Of float [N, C, H, W], black 0 and white 1."""
        levels = _turned(images, self.turn)
        kept = [down @ levels[:, channel] @ across.T for channel, (down, across) in enumerate(self.passes)]
        return _turned(torch.stack(kept, dim=1), self.back)


def _turned(levels: Tensor, colors: Tensor) -> Tensor:
    """Levels [N, C, H, W] in other colors; grey stays grey."""
    return levels if levels.shape[1] == 1 else torch.einsum("dc,nchw->ndhw", colors, levels)


def _cosines(n: int, device: torch.device) -> Tensor:
    """D_n, float64 [n, n]."""
    i = torch.arange(n, dtype=torch.float64, device=device)
    rows = torch.cos(math.pi / (2 * n) * i[:, None] * (2 * i + 1)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows


def _down(kept: int, side: int, device: torch.device) -> Tensor:
    """A, float64 [kept, side]."""
    return math.sqrt(kept / side) * _cosines(kept, device).T @ _cosines(side, device)[:kept]


def _up(kept: int, side: int, device: torch.device) -> Tensor:
    """B, float64 [side, kept]."""
    return math.sqrt(side / kept) * _cosines(side, device)[:kept].T @ _cosines(kept, device)
