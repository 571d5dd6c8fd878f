"""Spatial moments of an activation: the one statistic that every statistics-matching method needs.

    mean[n, c]        = (1 / HW) * sum_hw x[n, c, h, w]
    mean_square[n, c] = (1 / HW) * sum_hw (x[n, c, h, w] - shift[c])^2

Batch mean and variance (SRe2L), class-wise ones (LPLD) and pooled features (DEDA) are algebra
on these two [N, C] arrays. ``shift`` is any per-channel constant near the mean (the layer's
running mean): it keeps ``mean_square - (mean - shift)^2`` free of cancellation.

On request the same read of x also yields y = (x - shift) * scale + bias, rectified or not: that is
the frozen BatchNorm of ``batch_norm.py``. The backward pass then merges all three gradients:

    grad_x = grad_y * [y > 0] * scale + (grad_mean + 2 * grad_mean_square * (x - shift)) / HW

Cost: one read of x (and one write of y) forward; one read of x (and of grad_y) and one write of
grad_x backward. On a CPU that holds for main memory: blocks of images are worked on inside the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .autograd import Context
from .dispatch import HAS_TRITON, uses_triton

if HAS_TRITON:
    from .gpu.moments import moments_bwd, moments_fwd

_BLOCK = 1 << 19  # elements worked on at a time on a CPU, 2 MB of float32: a few of them fit the last cache

# -- reference -------------------------------------------------------------------------------------


def spatial_moments_reference(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, in the precision of x. Tests and benchmarks compare against this."""
    return x.mean((2, 3)), (x - shift.view(1, -1, 1, 1)).square().mean((2, 3))


# -- the PyTorch form: in-place passes over blocks of images that stay in a CPU's cache -----------------


def _blocks(x: Tensor) -> Iterator[slice]:
    N, C, HW = x.shape
    step = max(1, N if x.is_cuda else _BLOCK // max(C * HW, 1))
    return (slice(start, min(start + step, N)) for start in range(0, N, step))


def _torch_fwd(
    x: Tensor, shift: Tensor, scale: Tensor | None, bias: Tensor | None, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    direct = x.dtype == shift.dtype  # then the results themselves are the buffers
    if scale is None and direct and x.is_contiguous():
        return x.new_empty(0), *_moments_of_planes(x, shift)
    y = x.new_empty(0) if scale is None else torch.empty_like(x)
    mean, mean_square = (shift.new_empty(x.shape[:2]) for _ in range(2))
    buffers: list[Tensor] = []
    for block in _blocks(x):
        buffers = buffers or [torch.empty_like(x[block], dtype=shift.dtype) for _ in range(2)]
        centered, square = (buffer[: block.stop - block.start] for buffer in buffers)
        torch.sub(x[block], shift[:, None], out=centered)
        torch.sum(centered, 2, out=mean[block])
        torch.sum(torch.mul(centered, centered, out=square), 2, out=mean_square[block])
        if scale is not None and bias is not None:
            affine = torch.addcmul(
                bias[:, None], centered, scale[:, None], out=y[block] if direct else centered
            )
            if relu:
                affine.clamp_min_(0)
            if not direct:
                y[block] = affine
    return y, mean.div_(x.shape[2]).add_(shift), mean_square.div_(x.shape[2])


def _moments_of_planes(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The moments of planes [N, C, HW] that lie one after the other, in one read of each.

    A group normalization with a channel a group measures mean and deviation in one pass. What it normalizes
    is a block in the cache, and is dropped.
    """
    (_, C, HW), smallest = x.shape, torch.finfo(x.dtype).tiny
    mean, inverse = (shift.new_empty(x.shape[:2]) for _ in range(2))
    for block in _blocks(x):
        images = block.stop - block.start
        _, mean[block], inverse[block] = torch.native_group_norm(
            x[block], None, None, N=images, C=C, HxW=HW, group=C, eps=smallest
        )
    # var + (mean - shift)^2 adds two squares, and so cancels nothing.
    return mean, inverse.pow_(-2).add_((mean - shift).square())


def _moments_bwd(x: Tensor, shift: Tensor, grad_mean: Tensor, grad_mean_square: Tensor) -> Tensor:
    """The gradient of x [N, C, HW] from those of the moments alone, slope x + constant.

    Beside the gradient about the shift it errs by a rounding of slope x, which the rounding of x costs as
    well.
    """
    grad_x = torch.empty_like(x)
    slope = grad_mean_square[..., None] * (2 / x.shape[2])
    constant = grad_mean[..., None] / x.shape[2] - slope * shift[:, None]
    direct = x.dtype == shift.dtype
    for block in _blocks(x):
        if direct and x.stride(1) == 1:
            torch.addcmul(constant[block], x[block], slope[block], out=grad_x[block])
            continue
        # Where one number serves a whole plane, only operators of two tensors are vectorized.
        grad = torch.mul(x[block], slope[block], out=grad_x[block] if direct else None).add_(constant[block])
        if not direct:
            grad_x[block] = grad
    return grad_x


def _torch_bwd(
    x: Tensor,
    shift: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    grad_y: Tensor | None,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
) -> Tensor:
    if scale is None:
        return _moments_bwd(x, shift, grad_mean, grad_mean_square)
    grad_x = torch.empty_like(x)
    offset, slope = grad_mean[..., None] / x.shape[2], grad_mean_square[..., None] * (2 / x.shape[2])
    direct = x.dtype == shift.dtype
    buffers: list[Tensor] = []
    for block in _blocks(x):
        buffers = buffers or [torch.empty_like(x[block], dtype=shift.dtype) for _ in range(3)]
        grad, cast, y = (buffer[: block.stop - block.start] for buffer in buffers)
        grad = grad_x[block] if direct else grad
        torch.sub(x[block], shift[:, None], out=grad)
        upstream = None
        if bias is not None and grad_y is not None:
            upstream = grad_y[block] if direct else cast.copy_(grad_y[block])
            if relu:
                torch.addcmul(bias[:, None], grad, scale[:, None], out=y)
                upstream = torch.ops.aten.threshold_backward.grad_input(upstream, y, 0, grad_input=y)
        torch.addcmul(offset[block], grad, slope[block], out=grad)
        if upstream is not None:
            grad.addcmul_(upstream, scale[:, None])
        if not direct:
            grad_x[block] = grad
    return grad_x


def moments_gradient(
    x: Tensor,
    shift: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    grad_y: Tensor | None,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
) -> Tensor:
    """The gradient as one differentiable expression, for double backward."""
    centered = x.to(shift.dtype) - _wide(shift)
    pixels = x.shape[2] * x.shape[3]
    grad = (_wide(grad_mean) + 2 * _wide(grad_mean_square) * centered) / pixels
    if scale is not None and bias is not None and grad_y is not None:
        grad_y = grad_y.to(shift.dtype)
        if relu:
            grad_y = torch.where(centered * _wide(scale) + _wide(bias) <= 0, 0.0, grad_y)
        grad = grad + grad_y * _wide(scale)
    return grad.to(x.dtype)


def _wide(values: Tensor) -> Tensor:
    """Values of channels, [C] or [N, C], for every pixel of an image."""
    return values[..., None, None]


# -- autograd (eager) and operator registration (torch.compile) ----------------------------------------


def pixels_in_rows(planes: Tensor, x: Tensor) -> Tensor:
    """Planes [N, C, HW] that were just made, as [N, C, H, W] like x.

    To autograd the result is no view, so a network may change it in place (``out += identity``) at no other
    cost. In a view of an operator's result such a change costs three more copies of its gradient.
    """
    return torch.ops.aten._unsafe_view(planes, x.shape)


def _forward(
    x: Tensor, shift: Tensor, scale: Tensor | None, bias: Tensor | None, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    run = moments_fwd if uses_triton(x) and x.numel() else _torch_fwd
    y, mean, mean_square = run(x.flatten(2), shift, scale, bias, relu=relu)
    return y if scale is None else pixels_in_rows(y, x), mean, mean_square


def _backward(
    x: Tensor,
    shift: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    grad_y: Tensor | None,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
) -> Tensor:
    run = moments_bwd if uses_triton(x) and x.numel() else _torch_bwd
    grad_y = None if grad_y is None else grad_y.flatten(2)
    grad_x = run(x.flatten(2), shift, scale, bias, relu, grad_y, grad_mean, grad_mean_square)
    return pixels_in_rows(grad_x, x)


_moments_op = torch.library.custom_op("fastdd_kernels::moments", _forward, mutates_args=())
_moments_backward_op = torch.library.custom_op("fastdd_kernels::moments_backward", _backward, mutates_args=())


@_moments_op.register_fake
def _moments_fake(
    x: Tensor, shift: Tensor, scale: Tensor | None, bias: Tensor | None, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(0) if scale is None else pixels_in_rows(torch.empty_like(x.flatten(2)), x)
    return y, shift.new_empty(x.shape[:2]), shift.new_empty(x.shape[:2])


@_moments_backward_op.register_fake
def _moments_backward_fake(x: Tensor, *_: object) -> Tensor:
    return pixels_in_rows(torch.empty_like(x.flatten(2)), x)


def _plain(
    x: Tensor, shift: Tensor, scale: Tensor | None, bias: Tensor | None, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in PyTorch's own operators, which a compiler fuses with each other and with others."""
    centered = x.to(shift.dtype) - _wide(shift)
    moments = centered.mean((2, 3)) + shift, centered.square().mean((2, 3))
    if scale is None or bias is None:
        return x.new_empty(0), *moments
    y = centered * _wide(scale) + _wide(bias)
    return (y.relu() if relu else y).to(x.dtype), *moments


def _setup_context(
    ctx: Context[bool],
    inputs: tuple[Tensor, Tensor, Tensor | None, Tensor | None, bool],
    output: tuple[Tensor, Tensor, Tensor],
) -> None:
    *saved, ctx.options = inputs
    ctx.save_for_backward(*saved)
    ctx.set_materialize_grads(False)


def _merge(
    run: Callable[..., Tensor], ctx: Context[bool], grads: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient of x from those of the outputs there are; nothing else has one."""
    if all(grad is None for grad in grads):
        return (None,) * 5
    x, shift, scale, bias = ctx.saved_tensors
    grad_y = None if scale is None else grads[0]
    moments = [shift.new_zeros(()).expand(x.shape[:2]) if grad is None else grad for grad in grads[1:]]
    return run(x, shift, scale, bias, ctx.options, grad_y, *moments), *[None] * 4


def _op_backward(ctx: Context[bool], *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _merge(_moments_backward_op, ctx, grads)


_moments_op.register_autograd(_op_backward, setup_context=_setup_context)


class _Moments(torch.autograd.Function):
    forward = staticmethod(_forward)
    setup_context = staticmethod(_setup_context)

    @staticmethod
    def backward(ctx: Context[bool], *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # Under create_graph the result of the fused pass would be a constant to autograd.
        return _merge(moments_gradient if torch.is_grad_enabled() else _backward, ctx, grads)


def affine_moments(
    x: Tensor, shift: Tensor, scale: Tensor | None = None, bias: Tensor | None = None, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``(x - shift) * scale + bias``, and the moments of x; all but x are constants to autograd.

    Args:
        x: [N, C, H, W].
        shift, scale, bias: [C] in the dtype of the statistics; without a scale there is no y.

    Returns:
        (y [N, C, H, W] in the dtype of x or an empty tensor, mean [N, C], mean_square [N, C]).
    """
    constants = (None if value is None else value.detach() for value in (shift, scale, bias))
    run: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Moments.apply
    if torch.compiler.is_compiling():
        # An operator is a wall to the compiler, so only a kernel that no compiler writes is one.
        run = _moments_op if uses_triton(x) else _plain
    return run(x, *constants, relu)


# -- public function -------------------------------------------------------------------------------


def statistics_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64 input, float32 for any other."""
    return torch.promote_types(x.dtype, torch.float32)


def check_activation(x: Tensor) -> None:
    """Raise a ValueError unless x is a floating-point [N, C, H, W] with pixels."""
    if x.ndim != 4 or 0 in x.shape[2:] or not x.is_floating_point():
        raise ValueError(
            f"x must be a floating-point [N, C, H, W] with H, W > 0, got {tuple(x.shape)} {x.dtype}"
        )


def check_channels(name: str, value: Tensor | None, channels: int) -> None:
    """Raise a ValueError unless the value, if given, is [channels]."""
    if value is not None and value.shape != (channels,):
        raise ValueError(f"{name} must be [{channels}] to match the channels, got {tuple(value.shape)}")


def spatial_moments(x: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and (shifted) mean square of each channel of each image.

    Differentiable in x, twice in eager mode; shift is a constant.

    Args:
        x: activation [N, C, H, W], any float dtype, contiguous or channels-last; no layout copy.
        shift: per-channel constant [C] subtracted before squaring; zeros if not given.

    Returns:
        ``(mean, mean_square)``, each [N, C], float32 (float64 for float64 x).

    Raises:
        ValueError: x is not 4-D or has an empty spatial extent, or shift does not fit x.
    """
    check_activation(x)
    check_channels("shift", shift, x.shape[1])
    dtype = statistics_dtype(x)
    shift = x.new_zeros(x.shape[1], dtype=dtype) if shift is None else shift.to(dtype)
    return affine_moments(x, shift)[1:]
