"""Means over positions, such as the pixels of a layer's output, whose gradient costs one addition.

    mean[n, c] = (1 / HW) sum_hw x[n, c, h, w]        grad_x[n, c, h, w] = grad_mean[n, c] / HW

A statistic of a layer reads an activation that the next layer reads too, so its gradient is added to another
one. Before, PyTorch writes it out in float32, divides it at full size and rounds it to the dtype of x. Here
the small gradient is divided and rounded, and what autograd adds is a view of it: the same numbers.

Cost: one read of x forward; backward one read and one write of the gradient it is added to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .autograd import Context

# -- reference -------------------------------------------------------------------------------------


def pooled_mean_reference(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The definition, in the precision of x."""
    return x.mean(tuple(axes))


# -- autograd --------------------------------------------------------------------------------------

Options = tuple[torch.Size, torch.dtype, tuple[int, ...]]
"""shape and dtype of x, and the axes in ascending order"""


def _mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.mean(axes, dtype=torch.promote_types(x.dtype, torch.float32))


class _PooledMean(torch.autograd.Function):
    forward = staticmethod(_mean)

    @staticmethod
    def setup_context(ctx: Context[Options], inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        x, axes = inputs
        ctx.options = x.shape, x.dtype, axes

    @staticmethod
    def backward(ctx: Context[Options], grad: Tensor) -> tuple[Tensor, None]:
        shape, dtype, axes = ctx.options
        positions = 1
        for axis in axes:
            positions *= shape[axis]
        grad = (grad / positions).to(dtype)
        for axis in axes:
            grad = grad.unsqueeze(axis)
        return grad.expand(shape), None


# -- public function -------------------------------------------------------------------------------


def pooled_mean(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean of x over some of its axes.

    Differentiable twice. The gradient that x gets is a view of one number for each mean.

    Args:
        x: [...], any float dtype.
        axes: the axes that are averaged over, at least one.

    Returns:
        x without those axes, float32 (float64 for float64 x).

    Raises:
        ValueError: x is not floating point, there is no axis, or an axis is not one of x, or named twice.
    """
    ordered = tuple(sorted(axis % x.ndim for axis in axes if -x.ndim <= axis < x.ndim))
    if not x.is_floating_point() or not ordered or len({*ordered}) != len(axes):
        raise ValueError(
            f"the mean over axes needs a floating-point x and distinct axes of it, got {tuple(x.shape)} "
            f"{x.dtype} and the axes {list(axes)}"
        )
    # A compiler fuses the plain form with what is around it.
    return _mean(x, ordered) if torch.compiler.is_compiling() else _PooledMean.apply(x, ordered)
