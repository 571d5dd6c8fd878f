"""Moments of an activation in patches, which G-VBSM matches beside those of channels.

An activation [N, C, H, W] is enlarged bilinearly to the next multiple of P in height and width and cut into P
x P patches. The moments of patch p of image n are over all channels and its pixels:

    mean[n, p] = (1 / C P^2) sum_{c, hw in p} x[n, c, h, w]        mean_square[n, p]: the same of x^2

Batch statistics, weighted means and running averages are computed from these few numbers. Where H and W are
multiples of P, means over blocks of P x P pixels give both kinds of moments, so x is read once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, spatial_moments
from fastdd_kernels.autograd import Context

Moments = tuple[Tensor, Tensor]
"""(mean, mean square), each [N, D], a row for each image"""


class _Blocks(torch.autograd.Function):
    """Means of x and of x^2 over blocks of P x P pixels, [N, C, rows, columns]; backward reads x once."""

    @staticmethod
    def forward(x: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        return F.avg_pool2d(x, patch), F.avg_pool2d(x.square(), patch)

    @staticmethod
    def setup_context(ctx: Context[int], inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.options = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Context[int], *grads: Tensor) -> tuple[Tensor, None]:
        (x,), patch = ctx.saved_tensors, ctx.options
        of_mean, of_square = (grad[:, :, :, None, :, None] / patch**2 for grad in grads)
        blocks = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
        return torch.addcmul(of_mean, blocks, 2 * of_square).flatten(4, 5).flatten(2, 3), None


def image_moments(x: Tensor, patch: int) -> tuple[Moments, Moments]:
    """Moments about 0 of every channel, and of every patch.

    Args:
        x: activation [N, C, H, W] of any float dtype; channels-last is fastest.
        patch: side P of the patches in pixels.

    Returns:
        The moments of channels [N, C], and of patches [N, rows * columns] in row-major order. They are
        float32, or float64 if x is.
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
