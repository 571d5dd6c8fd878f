"""One block of pairs in PyTorch: sums of distances or absolute products, and the weights of the gradient.

    d^2 = ||x||^2 + ||y||^2 - 2 <x, y>

See ``pairs.py`` for what is made of it, and ``gpu/pairs.py`` for the same block in Triton.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autograd import Context
from .product import add_product, matmul, multiply

# -- as expressions that autograd can differentiate --------------------------------------------------


def exact_product(x: Tensor, y: Tensor, precision: str) -> Tensor:
    """<x_i, y_j> [..., n, k], differentiable, rounded only once where that matters."""
    if precision == "fast" or x.dtype == torch.float64:
        return matmul(x, y.mT, "fast" if precision == "fast" else "high")
    return matmul(x.double(), y.double().mT).to(x.dtype)


def _coincident(square: Tensor, scale: Tensor) -> Tensor:
    """Where pairs are at no distance; false for NaN, which must survive."""
    return square <= 4 * torch.finfo(square.dtype).eps * scale


def _diagonal(pairs: Tensor, first: int) -> Tensor:
    """The pairs of equal index, when the first column is row ``first`` of all of y."""
    rows = torch.arange(pairs.shape[-2], device=pairs.device).unsqueeze(-1)
    return rows == torch.arange(first, first + pairs.shape[-1], device=pairs.device)


def distances(x: Tensor, y: Tensor, diagonal: int | None = None, precision: str = "high") -> Tensor:
    """Distances [..., n, k] of centered rows, differentiable any number of times.

    ``diagonal`` is the index of the first row of y among all of y; with it the distance of pairs of equal
    index is 0.
    """
    scale = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
    square = scale - 2 * exact_product(x, y, precision)
    coincident = _coincident(square, scale)
    if diagonal is not None:
        coincident = coincident | _diagonal(square, diagonal)
    # The root of a zero is skipped, not only masked: its slope is infinite.
    return torch.where(coincident, 0.0, torch.where(coincident, 1.0, square).sqrt())


def slope(x: Tensor, y: Tensor, weight: Tensor, kind: str, diagonal: int | None, precision: str) -> Tensor:
    """Gradient [G, n, D] of the sums over a block of y by x, as a differentiable expression."""
    if kind == "absolute":
        sign = exact_product(x, y, precision).sign() * weight.unsqueeze(-2)
        return matmul(sign if diagonal is None else sign.masked_fill(_diagonal(sign, diagonal), 0.0), y)
    distance = distances(x, y, diagonal, precision)
    coincident = distance == 0
    inverse = torch.where(coincident, 0.0, weight.unsqueeze(-2) / torch.where(coincident, 1.0, distance))
    return x * inverse.sum(-1, keepdim=True) - matmul(inverse, y)


# -- without autograd, in place ------------------------------------------------------------------------


def _squares(
    x: Tensor, y: Tensor, x_square: Tensor, y_square: Tensor, precision: str
) -> tuple[Tensor, Tensor | None]:
    """d^2 [G, n, k], and the pairs that are at no distance; None if there are none.

    In float32 the product errs in proportion to <x, y>. Only near pairs, where that is most of the scale,
    could miss the bound, and only a group that has one is computed in float64. On a GPU, where looking would
    mean waiting, every group is.
    """
    scale = x_square.unsqueeze(-1) + y_square.unsqueeze(-2)
    double = precision == "high" and x.dtype == torch.float32
    if x.is_cuda and double:
        square = torch.sub(scale, exact_product(x, y, precision), alpha=2)
    else:
        square = torch.sub(scale, multiply(x, y.mT, precision), alpha=2)
    if not x.is_cuda and square.numel():
        far = 0.5 if double else 4 * torch.finfo(x.dtype).eps
        near = ~((square / scale).amin((1, 2)) > far)  # true for NaN, and for two zeros
        if not near.any():
            return square, None
        if double:
            square[near] = torch.sub(scale[near], exact_product(x[near], y[near], precision), alpha=2)
    return square, _coincident(square, scale)


def _squares_of_one_group(
    x: Tensor, y: Tensor, x_square: Tensor, y_square: Tensor, precision: str
) -> tuple[Tensor, bool]:
    """d^2 [n, k] of one group on a CPU, 0 for pairs at no distance, and whether such pairs may be among them.

    As ``_squares``, with one buffer, and only the rows that have a near pair are computed in float64.
    """
    square = add_product(x_square[:, None] + y_square, x, y.T, alpha=-2, precision=precision)
    if not square.numel():
        return square, False
    double = precision == "high" and x.dtype == torch.float32
    far = 0.5 if double else 4 * torch.finfo(x.dtype).eps
    # False for NaN, and for two zeros.
    apart = square.amin(1) > far * (x_square + y_square.amax())
    if apart.all():
        return square, False
    rows = (~apart).nonzero().flatten()
    scale, near = x_square[rows, None] + y_square, square[rows]
    if double:
        near = torch.sub(scale, exact_product(x[rows], y, precision), alpha=2)
    square[rows] = near.masked_fill_(_coincident(near, scale), 0.0)
    return square, True


class _Matrix(torch.autograd.Function):
    """Distances [n, k] of centered rows on a CPU, in place, with the gradient in two products."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, without_diagonal: bool, precision: str) -> tuple[Tensor, Tensor]:
        square, zeros = _squares_of_one_group(x, y, x.square().sum(1), y.square().sum(1), precision=precision)
        if without_diagonal and square.numel():
            square.fill_diagonal_(0.0)
        return square.sqrt_(), torch.tensor(zeros or without_diagonal)

    @staticmethod
    def setup_context(
        ctx: Context[tuple[bool, str]],
        inputs: tuple[Tensor, Tensor, bool, str],
        output: tuple[Tensor, Tensor],
    ) -> None:
        x, y, without_diagonal, precision = inputs
        ctx.options = without_diagonal, precision
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, y, *output)

    @staticmethod
    def backward(ctx: Context[tuple[bool, str]], upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distance, zeros = ctx.saved_tensors
        without_diagonal, precision = ctx.options
        if torch.is_grad_enabled():  # under create_graph: the gradient as an expression
            again = distances(x, y, 0 if without_diagonal else None, precision)
            inputs = [side for side, needed in zip((x, y), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(again, inputs, upstream, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None, None
        weight = upstream / distance
        if zeros:
            weight.masked_fill_(distance == 0, 0.0)
        grads: list[Tensor | None] = [None, None]
        for i, (own, other, pairs) in enumerate(((x, y, weight), (y, x, weight.T))):
            if ctx.needs_input_grad[i]:
                pulled = multiply(pairs, other, precision)
                grads[i] = pulled.neg_().addcmul_(own, pairs.sum(1, keepdim=True))
        return *grads, None, None


def distance_matrix(x: Tensor, y: Tensor, without_diagonal: bool, precision: str) -> Tensor:
    """:func:`distances` [n, k] of centered rows [n, D] and [k, D], in the form that is fastest there."""
    if x.is_cuda or torch.compiler.is_compiling():
        return distances(x, y, 0 if without_diagonal else None, precision)
    matrix: Tensor = _Matrix.apply(x, y, without_diagonal, precision)[0]
    return matrix


def _tile_of_one_group(
    pairs: Tensor, zeros: bool, weight: Tensor | None, diagonal: int | None, need_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """``torch_tile`` from the distances [n, k] of one group, in whose memory the slope is written."""
    if diagonal is not None:
        pairs.diagonal(-diagonal).zero_()
    total = (pairs if weight is None else pairs * weight).sum(1)
    if not need_slope:
        return total.unsqueeze(0), None
    none = pairs == 0 if zeros or diagonal is not None else None
    slope = pairs.reciprocal_()
    if none is not None:
        slope.masked_fill_(none, 0.0)
    return total.unsqueeze(0), (slope if weight is None else slope.mul_(weight)).unsqueeze(0)


def torch_tile(
    x: Tensor,
    y: Tensor,
    x_square: Tensor,
    y_square: Tensor,
    weight: Tensor | None,
    kind: str,
    diagonal: int | None,
    precision: str,
    need_slope: bool,
) -> tuple[Tensor, Tensor | None]:
    """Sums [G, n] over a block of y, and W [G, n, k]."""
    if kind == "distance" and len(x) == 1 and not x.is_cuda:
        square, zeros = _squares_of_one_group(x[0], y[0], x_square[0], y_square[0], precision=precision)
        return _tile_of_one_group(square.sqrt_(), zeros, weight, diagonal=diagonal, need_slope=need_slope)
    if kind == "absolute":
        pairs = multiply(x, y.mT, precision)
        slope = pairs.sign() if need_slope else None
        pairs.abs_()
    else:
        square, coincident = _squares(x, y, x_square, y_square, precision=precision)
        pairs = (square if coincident is None else square.masked_fill_(coincident, 0.0)).sqrt_()
        slope = pairs.reciprocal() if need_slope else None
        if slope is not None and coincident is not None:
            slope.masked_fill_(coincident, 0.0)
    if diagonal is not None:
        pairs.diagonal(-diagonal, -2, -1).zero_()
        if slope is not None:
            slope.diagonal(-diagonal, -2, -1).zero_()
    if weight is None:
        return pairs.sum(-1), slope
    weight = weight.unsqueeze(-2)
    return (pairs * weight).sum(-1), None if slope is None else slope.mul_(weight)
