"""The end of a residual block in one pass: frozen BatchNorm, the sum with the shortcut, ReLU, and moments.

    y = max(0, (x - shift) * scale + bias + residual)

with the moments of x about shift, as in ``moments.py``. Behind a BatchNorm of its own, the sum and the ReLU
read two more activations and write two; here x and the residual are read and y is written. The gradient reads
x, y and grad_y:

    grad_residual = grad_y [y > 0]
    grad_x = grad_residual scale + (grad_mean + 2 grad_mean_square (x - shift)) / HW

The one kernel is for a GPU. Elsewhere the three are computed one after the other, which is the definition.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd import Context
from .dispatch import HAS_TRITON, uses_triton
from .moments import affine_moments, moments_gradient, pixels_in_rows, spatial_moments_reference

if HAS_TRITON:
    from .gpu.moments import moments_bwd, moments_fwd

# -- reference -------------------------------------------------------------------------------------


def residual_moments_reference(
    x: Tensor, residual: Tensor, shift: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, in the precision of x."""
    shift, scale, bias = (value.view(1, -1, 1, 1) for value in (shift, scale, bias))
    y = F.relu((x - shift) * scale + bias + residual)
    return (y, *spatial_moments_reference(x, shift.flatten()))


# -- one kernel, on a GPU ----------------------------------------------------------------------------


def _forward(
    x: Tensor, residual: Tensor, shift: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, mean_square = moments_fwd(
        x.flatten(2), shift, scale, bias, relu=True, residual=residual.flatten(2)
    )
    return pixels_in_rows(y, x), mean, mean_square


def _backward(
    x: Tensor,
    y: Tensor,
    shift: Tensor,
    scale: Tensor,
    bias: Tensor,
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The gradients by x and by the residual, whose dtype is given."""
    result = y.flatten(2)
    grad_residual = torch.empty_like(result, dtype=dtype)
    moments = grad_mean, grad_mean_square
    grad_x = moments_bwd(
        x.flatten(2), shift, scale, bias, True, grad_y.flatten(2), *moments, result, grad_residual
    )
    return pixels_in_rows(grad_x, x), pixels_in_rows(grad_residual, x)


def _gradient(
    x: Tensor,
    y: Tensor,
    shift: Tensor,
    scale: Tensor,
    bias: Tensor,
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The same as one differentiable expression, for double backward."""
    masked = torch.where(y <= 0, 0.0, grad_y)
    grad_x = moments_gradient(x, shift, scale, bias, False, masked, grad_mean, grad_mean_square)
    return grad_x, masked.to(dtype)


_forward_op = torch.library.custom_op("fastdd_kernels::residual_moments", _forward, mutates_args=())
_backward_op = torch.library.custom_op(
    "fastdd_kernels::residual_moments_backward", _backward, mutates_args=()
)


@_forward_op.register_fake
def _forward_fake(
    x: Tensor, residual: Tensor, shift: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    y = pixels_in_rows(torch.empty_like(x.flatten(2)), x)
    return y, shift.new_empty(x.shape[:2]), shift.new_empty(x.shape[:2])


@_backward_op.register_fake
def _backward_fake(x: Tensor, y: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    dtype = rest[-1]
    assert isinstance(dtype, torch.dtype)
    grad_x, grad_residual = torch.empty_like(x.flatten(2)), torch.empty_like(y.flatten(2), dtype=dtype)
    return pixels_in_rows(grad_x, x), pixels_in_rows(grad_residual, x)


def _setup_context(
    ctx: Context[torch.dtype],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    output: tuple[Tensor, Tensor, Tensor],
) -> None:
    x, residual, *constants = inputs
    ctx.options = residual.dtype
    ctx.save_for_backward(x, output[0], *constants)


def _merge(
    run: Callable[..., tuple[Tensor, Tensor]], ctx: Context[torch.dtype], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    return *run(*ctx.saved_tensors, *grads, ctx.options), None, None, None


def _op_backward(ctx: Context[torch.dtype], *grads: Tensor) -> tuple[Tensor | None, ...]:
    return _merge(_backward_op, ctx, grads)


_forward_op.register_autograd(_op_backward, setup_context=_setup_context)


class _ResidualMoments(torch.autograd.Function):
    forward = staticmethod(_forward)
    setup_context = staticmethod(_setup_context)

    @staticmethod
    def backward(ctx: Context[torch.dtype], *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _merge(_gradient if torch.is_grad_enabled() else _backward, ctx, grads)


# -- what layers call ---------------------------------------------------------------------------------


def residual_moments(
    x: Tensor, residual: Tensor, shift: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``max(0, (x - shift) * scale + bias + residual)``, and the moments of x.

    Differentiable in x and the residual, twice in eager mode.

    Args:
        x: [N, C, H, W], any float dtype.
        residual: of the shape of x.
        shift, scale, bias: constants [C] in the dtype of the statistics.

    Returns:
        (y [N, C, H, W] in the dtype of x, mean [N, C], mean_square [N, C]).

    Raises:
        ValueError: the shapes of x and the residual differ.
    """
    if residual.shape != x.shape:
        raise ValueError(f"a residual has the shape of x, {tuple(x.shape)}, got {tuple(residual.shape)}")
    if not (uses_triton(x) and x.numel()):
        y, mean, mean_square = affine_moments(x, shift, scale, bias)
        return F.relu(y + residual), mean, mean_square
    run: Callable[..., tuple[Tensor, Tensor, Tensor]] = _ResidualMoments.apply
    if torch.compiler.is_compiling():
        run = _forward_op
    return run(x, residual, shift.detach(), scale.detach(), bias.detach())
