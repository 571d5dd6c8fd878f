"""Statistics of an image's activation in patches: the second kind that G-VBSM matches.

An activation [N, C, H, W] is enlarged to the next multiple of P in height and width (bilinear) and cut into P x P
patches. A patch's moments are over the channels and pixels of its place:

    mean[n, p] = (1 / C P^2) sum_{c, hw in p} x[n, c, h, w]        mean_square[n, p] likewise, of x^2

Batch statistics, weighted means over data sets and memories are algebra on these few numbers. Where H and W are
multiples of P, sums over blocks of P x P pixels serve channels and patches alike: one read of x for both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastdd_kernels import resample, spatial_moments

Moments = tuple[Tensor, Tensor]
"""(mean, mean square), each [N, D]: one row an image"""


def image_moments(x: Tensor, patch: int) -> tuple[Moments, Moments]:
    """Moments about 0 of every channel, and of every patch.

    Args:
        x: activation [N, C, H, W], any float dtype.
        patch: side P of the patches in pixels.

    Returns:
        Those of channels [N, C], and of patches [N, rows * columns] in row-major order; float32 (float64 for float64).
    """
    height, width = (-(-side // patch) * patch for side in x.shape[2:])
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if (height, width) != x.shape[2:]:
        channels = spatial_moments(x)
        # Not F.interpolate, whose gradient is a sum in random order on a GPU.
        whole = torch.zeros(1, 3, dtype=torch.int64, device=x.device)
        x = resample(x, whole, (height, width))
        return channels, _of_patches(_blocks(x, patch), _blocks(x.square(), patch))
    means, squares = _blocks(x, patch), _blocks(x.square(), patch)
    return (means.mean((2, 3)), squares.mean((2, 3))), _of_patches(means, squares)


def _blocks(x: Tensor, patch: int) -> Tensor:
    """Means of blocks of P x P pixels, [N, C, rows, columns]."""
    return x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch)).mean((3, 5))


def _of_patches(means: Tensor, squares: Tensor) -> Moments:
    return means.mean(1).flatten(1), squares.mean(1).flatten(1)
