"""BatchNorm by the statistics of the batches of several processes, where torch's SyncBatchNorm cannot be.

torch's is for GPUs alone. This one is made of torch's fused passes over the activations, which keep their
dtype: one for the statistics and one for the output, and backward one for two sums and two for the gradient.

With the n values of a channel in all processes, their mean m and variance v, the output is

    y = w z + b,   z = (x - m) / sqrt(v + eps)

and with the sums over all processes of dy and of z dy the gradient is

    dx = w / sqrt(v + eps) (dy - sum(dy) / n - z sum(z dy) / n).

Source: Ioffe and Szegedy, "Batch Normalization", 2015, section 3.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm


class SharedBatchNorm(nn.Module):
    """A BatchNorm by the statistics of the batches of all processes together, on any device.

    In eval mode it is the BatchNorm.

    Args:
        norm: the BatchNorm whose weights and running statistics these are.
        group: the processes.
    """

    def __init__(self, norm: _BatchNorm, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.norm, self.group = norm, group

    def forward(self, images: Tensor) -> Tensor:
        norm = self.norm
        if not self.training:
            return norm(images)
        mean, variance, count = _statistics(images.detach(), self.group)
        self._remember(mean, variance * count / (count - 1), norm)
        return _Normalized.apply(images, norm.weight, norm.bias, mean, variance, count, norm.eps, self.group)

    @staticmethod
    @torch.no_grad()
    def _remember(mean: Tensor, variance: Tensor, norm: _BatchNorm) -> None:
        """Move the running statistics, if any, as BatchNorm does."""
        if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
            return
        norm.num_batches_tracked.add_(1)
        part = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked.item()
        norm.running_mean.mul_(1 - part).add_(mean, alpha=part)
        norm.running_var.mul_(1 - part).add_(variance, alpha=part)


def _statistics(images: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count, a scalar tensor, of the channels over all processes.

    The sums that the processes send are float64: a mean of squares less a squared mean loses no digit of
    float32 there. Mean and variance are float32, or float64 for images [N, C, ...] that are.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    empty = torch.zeros(images.shape[1], dtype=dtype, device=images.device)
    mean, variance = torch.batch_norm_update_stats(images, empty, empty.clone(), 0.0)
    mean, variance = mean.double(), variance.double()
    count = mean.new_full((1,), images.numel() / images.shape[1])
    sums = torch.cat([count * mean, count * (variance + mean.square()), count])
    dist.all_reduce(sums, group=group)
    count = sums[-1]
    mean, squares = (sums[:-1] / count).chunk(2)
    return mean.to(dtype), (squares - mean.square()).clamp_min(0).to(dtype), count.to(dtype)


class _Normalized(torch.autograd.Function):
    """The output of a BatchNorm with given statistics, whose gradient is that of all processes together."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        group: dist.ProcessGroup,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, variance, count)  # type: ignore[arg-type]  # None may be saved
        ctx.eps, ctx.group = eps, group  # type: ignore[attr-defined]
        return F.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance, count = ctx.saved_tensors  # type: ignore[attr-defined]
        eps = ctx.eps  # type: ignore[attr-defined]
        ones = torch.ones_like(mean) if weight is None else weight
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, ones, mean, variance, None, None, False, eps, [False, True, True]
        )
        sums = torch.cat([of_bias, of_weight])
        dist.all_reduce(sums, group=ctx.group)  # type: ignore[attr-defined]
        of_output, of_normalized = (sums / count).chunk(2)
        rate = (variance + eps).rsqrt()
        scale, slope = ones * rate, ones * rate.square() * of_normalized
        shape = [1, -1] + [1] * (images.ndim - 2)
        of_images = torch.addcmul(
            (slope * mean - scale * of_output).view(shape), gradient, scale.view(shape)
        ).addcmul_(images, -slope.view(shape))
        return (
            of_images.to(images.dtype),
            None if weight is None else of_weight,
            None if weight is None else of_bias,
            None, None, None, None, None,
        )  # fmt: skip
