"""All-pairs Euclidean distance: the matrix, and sums of it in bounded memory.

    d_ij = sqrt(max(||x_i||^2 + ||y_j||^2 - 2 <x_i, y_j>, 0))        one matrix product
    d/dx_i sum_j d_ij = sum_j (x_i - y_j) / d_ij = x_i sum_j W_ij - (W y)_i,   W = 1 / d

The expanded square cancels, so both sides are first shifted by one shared centre c, which changes
no distance: the error of d^2 is then at most 1e-6 (||x - c||^2 + ||y - c||^2) in float32 whatever
the common offset. Below half of that two points cannot be told apart: they count as coincident,
with distance 0 and gradient 0.

``distance_sum`` walks over y in chunks, and computes the gradient in the same sweep as the value
(2 products per chunk instead of 3, nothing n x m kept). Cost: 4 n m D operations with a gradient
to one side, 2 n m D without, and n + m rows of memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .cosine import Reduction, check_pair, check_reduction, to_float
from .product import Precision, check_precision, matmul

_CHUNK = 1 << 20  # distances alive at a time; a few temporaries of this many floats

# -- reference -------------------------------------------------------------------------------------


def distance_sum_reference(
    x: Tensor, y: Tensor | None = None, exclude_diagonal_pairs: bool = False, y_weight: Tensor | None = None
) -> Tensor:
    """The definition, every difference written out; NaN gradient at coincident points."""
    y = x if y is None else y
    distance = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()
    if exclude_diagonal_pairs:
        distance = distance * (1 - torch.eye(*distance.shape[-2:], dtype=x.dtype, device=x.device))
    if y_weight is not None:
        distance = distance * y_weight.unsqueeze(-2)
    return distance.sum((-2, -1))


# -- one block of distances ----------------------------------------------------------------------------


def _block(
    x: Tensor, y: Tensor, x_square: Tensor, y_square: Tensor, diagonal: int | None, precision: Precision
) -> Tensor:
    """Distances [..., n, k] of centred rows and their squared norms, differentiable.

    ``diagonal`` is the index of the first row of y among all of y, and makes pairs of equal index 0.
    """
    scale = x_square.unsqueeze(-1) + y_square.unsqueeze(-2)
    square = scale - 2 * matmul(x, y.mT, precision)
    coincident = square <= 4 * torch.finfo(x.dtype).eps * scale  # false for NaN, which must survive
    if diagonal is not None:
        rows = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        coincident = coincident | (rows == torch.arange(diagonal, diagonal + y.shape[-2], device=x.device))
    return torch.where(coincident, 0.0, torch.where(coincident, 1.0, square).sqrt())


def _inverse(distance: Tensor, y_weight: Tensor | None) -> Tensor:
    """W = weight / d, with 0 where d is 0: the subgradient of the distance at coincident points."""
    coincident = distance == 0
    numerator = 1.0 if y_weight is None else y_weight.unsqueeze(-2)
    return torch.where(coincident, 0.0, numerator / torch.where(coincident, 1.0, distance))


def _sweep(
    x: Tensor, y: Tensor, y_square: Tensor, y_weight: Tensor | None,
    exclude_diagonal: bool, precision: Precision, need_x: bool, need_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Sum [G] of the distances of centred rows, and its gradients (empty where not needed)."""
    G, n, m = x.shape[0], x.shape[1], y.shape[1]
    total = x.new_zeros(G)
    grad_x = torch.zeros_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    grad_y = torch.empty_like(y, memory_format=torch.contiguous_format) if need_y else x.new_empty(0)
    row_weight = x.new_zeros(G, n, 1)
    x_square = x.square().sum(-1)
    step = max(16, _CHUNK // max(G * n, 1))
    for start in range(0, m, step):
        part = slice(start, start + step)
        columns, weight = y[:, part], None if y_weight is None else y_weight[:, part]
        # Past row n of y the diagonal has left the block.
        diagonal = start if exclude_diagonal and start < n else None
        distance = _block(x, columns, x_square, y_square[:, part], diagonal, precision)
        total += (distance if weight is None else distance * weight.unsqueeze(1)).sum((1, 2))
        if need_x or need_y:
            inverse = _inverse(distance, weight)
        if need_x:
            row_weight += inverse.sum(2, keepdim=True)
            grad_x -= matmul(inverse, columns, precision)
        if need_y:
            pull = matmul(inverse.mT, x, precision)
            grad_y[:, part] = columns * inverse.sum(1).unsqueeze(-1) - pull
    if need_x:
        grad_x.addcmul_(x, row_weight)
    return total, grad_x, grad_y


# -- autograd (eager) and operator registration (torch.compile) --------------------------------------------


def _gradients(
    x: Tensor, y: Tensor, y_weight: Tensor | None, exclude_diagonal: bool, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The gradients of the sum as differentiable expressions: for double backward, in n m memory."""
    diagonal = 0 if exclude_diagonal else None
    distance = _block(x, y, x.square().sum(-1), y.square().sum(-1), diagonal, precision)
    inverse = _inverse(distance, y_weight)
    grad_x = x * inverse.sum(2, keepdim=True) - matmul(inverse, y, precision)
    grad_y = y * inverse.sum(1).unsqueeze(-1) - matmul(inverse.mT, x, precision)
    return grad_x, grad_y


class _DistanceSum(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        return _sweep(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, _, y_weight, ctx.exclude_diagonal, ctx.precision, *_ = inputs
        _, grad_x, grad_y = output
        ctx.mark_non_differentiable(grad_x, grad_y)
        ctx.save_for_backward(x, y, y_weight, grad_x, grad_y)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, y, y_weight, grad_x, grad_y = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the saved numbers would be constants to autograd
            grad_x, grad_y = _gradients(x, y, y_weight, ctx.exclude_diagonal, ctx.precision)
        scale, (need_x, need_y, *_) = upstream.view(-1, 1, 1), ctx.needs_input_grad
        return scale * grad_x if need_x else None, scale * grad_y if need_y else None, *[None] * 6


@torch.library.custom_op("fastdd_kernels::distance_sum", mutates_args=())
def _distance_sum_op(
    x: Tensor, y: Tensor, y_square: Tensor, y_weight: Tensor | None,
    exclude_diagonal: bool, precision: str, need_x: bool, need_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _sweep(x, y, y_square, y_weight, exclude_diagonal, precision, need_x, need_y)  # type: ignore[arg-type]


@_distance_sum_op.register_fake
def _distance_sum_fake(
    x: Tensor, y: Tensor, y_square: Tensor, y_weight: Tensor | None,
    exclude_diagonal: bool, precision: str, need_x: bool, need_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grad_x, grad_y = (t.new_empty(t.shape if need else 0) for t, need in ((x, need_x), (y, need_y)))
    return x.new_empty(x.shape[0]), grad_x, grad_y


def _op_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])


def _op_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    scale, (need_x, need_y, *_) = upstream.view(-1, 1, 1), ctx.needs_input_grad
    grad_x, grad_y = ctx.saved_tensors
    return scale * grad_x if need_x else None, scale * grad_y if need_y else None, *[None] * 6


_distance_sum_op.register_autograd(_op_backward, setup_context=_op_setup_context)


def centred_distance_sum(
    x: Tensor, y: Tensor, y_square: Tensor, y_weight: Tensor | None = None,
    exclude_diagonal: bool = False, precision: Precision = "high",
) -> Tensor:  # fmt: skip
    """``distance_sum`` of rows already centred, of one dtype, with ||y||^2 [G, m] computed beforehand."""
    record = torch.is_grad_enabled()
    needs = record and x.requires_grad, record and y.requires_grad
    run = _distance_sum_op if torch.compiler.is_compiling() else _DistanceSum.apply
    total: Tensor = run(x, y, y_square, y_weight, exclude_diagonal, precision, *needs)[0]
    return total


# -- public functions --------------------------------------------------------------------------------


def shared_centre(y: Tensor, y_weight: Tensor | None = None) -> Tensor:
    """Mean row of y [..., m, D], [..., 1, D], a constant; weighted where padding must not count."""
    y = y.detach()
    if y_weight is None:
        return y.sum(-2, keepdim=True) / max(y.shape[-2], 1)
    weight = y_weight.detach().unsqueeze(-1)
    return (y * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)


def distance_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    exclude_diagonal_pairs: bool = False,
    y_weight: Tensor | None = None,
    precision: Precision = "high",
) -> Tensor:
    """Sum of the Euclidean distances of all pairs, group by group (DiRe, eq. 2).

    Differentiable in x and y (twice, in eager mode); the gradient at coincident points is 0.

    Args:
        x: [G, n, D], any real float dtype.
        y: [G, m, D]; x itself if not given.
        exclude_diagonal_pairs: leave out the pairs (i, i), i < min(n, m).
        y_weight: [G, m], a constant factor for each row of y; 0 takes out a padding row.
        precision: "high": the error of d^2 is at most 1e-6 (||x-c||^2 + ||y-c||^2), c the mean of
            y, even where the process allows TF32 (there at the price of three products). "fast":
            one product in whatever float32 arithmetic the process allows, 1e-4 with TF32.

    Returns:
        [G]; float64 if an input is, float32 otherwise.

    Raises:
        ValueError: shapes do not fit or the precision is unknown.
        TypeError: an input is not floating point.
    """
    check_pair(x, y, ndim=3)
    check_precision(precision)
    other = x if y is None else y
    if y_weight is not None and y_weight.shape != other.shape[:2]:
        raise ValueError(f"y_weight must be {tuple(other.shape[:2])}, got {tuple(y_weight.shape)}")
    x, other = to_float(x, other)
    y_weight = None if y_weight is None else y_weight.detach().to(x.dtype)
    centre = shared_centre(other, y_weight)
    centred = x - centre
    other = centred if y is None else other - centre
    y_square = other.detach().square().sum(-1)
    return centred_distance_sum(centred, other, y_square, y_weight, exclude_diagonal_pairs, precision)


def pairwise_euclidean_distance(
    x: Tensor, y: Tensor | None = None, reduction: Reduction = None, zero_diagonal: bool | None = None
) -> Tensor:
    """Distance of every row of x to every row of y; a drop-in for torchmetrics' function.

    It differs from the original in that it stays in the precision of its input (error as for
    ``distance_sum``), never takes the root of a negative number, and has a finite gradient everywhere.

    Args:
        x: [n, D], any real float dtype.
        y: [m, D]; x itself if not given.
        reduction: over the last dimension (the rows of y): "mean", "sum", or none of them.
        zero_diagonal: count the pairs (i, i) as 0, also where y is given and n differs from m. By
            default only when y is not given. A mean still divides by m.

    Returns:
        [n, m], or [n] with a reduction; float64 if x or y is, float32 otherwise.

    Raises:
        ValueError: x or y is not a matrix, their widths differ, or the reduction is unknown.
        TypeError: x or y is not floating point.
    """
    check_pair(x, y, ndim=2)
    check_reduction(reduction)
    without_diagonal = y is None if zero_diagonal is None else zero_diagonal
    x, other = to_float(x, x if y is None else y)
    centre = shared_centre(other)
    x, other = x - centre, other - centre
    diagonal = 0 if without_diagonal else None
    distance = _block(x, other, x.square().sum(-1), other.square().sum(-1), diagonal, "high")
    if reduction == "mean":
        return distance.mean(-1)
    return distance.sum(-1) if reduction == "sum" else distance
