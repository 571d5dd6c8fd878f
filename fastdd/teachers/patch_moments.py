"""Statistics of an image's activation in patches: the second kind that G-VBSM matches.

An activation [N, C, H, W] is enlarged to the next multiple of P in height and width (bilinear) and cut into P x P
patches. A patch's moments are over the channels and pixels of its place:

    mean[n, p] = (1 / C P^2) sum_{c, hw in p} x[n, c, h, w]        mean_square[n, p] likewise, of x^2

Batch statistics, weighted means over data sets and memories are algebra on these few numbers. Where H and W are
multiples of P, sums over blocks of P x P pixels serve channels and patches alike: one read of x for both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, spatial_moments

Moments = tuple[Tensor, Tensor]
"""(mean, mean square), each [N, D]: one row an image"""


class _Blocks(torch.autograd.Function):
    """Means of x and of x^2 over blocks of P x P pixels, [N, C, rows, columns]; the gradient is one pass over x."""

    @staticmethod
    def forward(x: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        return F.avg_pool2d(x, patch), F.avg_pool2d(x.square(), patch)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.patch = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,), area = ctx.saved_tensors, ctx.patch**2
        of_mean, of_square = (grad[:, :, :, None, :, None] / area for grad in grads)
        blocks = x.unflatten(3, (-1, ctx.patch)).unflatten(2, (-1, ctx.patch))
        return torch.addcmul(of_mean, blocks, 2 * of_square).flatten(4, 5).flatten(2, 3), None


def image_moments(x: Tensor, patch: int) -> tuple[Moments, Moments]:
    """Moments about 0 of every channel, and of every patch.

    Args:
        x: activation [N, C, H, W], any float dtype; channels-last is fastest.
        patch: side P of the patches in pixels.

    Returns:
        Those of channels [N, C], and of patches [N, rows * columns] in row-major order; float32 (float64 for float64).
    """
    height, width = (-(-side // patch) * patch for side in x.shape[2:])
    x, channels = x.to(torch.promote_types(x.dtype, torch.float32)), None
    if (height, width) != x.shape[2:]:
        channels = spatial_moments(x)
        # Not F.interpolate, whose gradient is a sum in random order on a GPU.
        whole = torch.zeros(1, 3, dtype=torch.int64, device=x.device)
        x = resample(x, whole, (height, width))
    mean, mean_square = _Blocks.apply(x, patch)
    channels = channels or (mean.mean((2, 3)), mean_square.mean((2, 3)))
    return channels, (mean.mean(1).flatten(1), mean_square.mean(1).flatten(1))
