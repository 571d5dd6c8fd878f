"""Sums over all pairs of rows of two sets, group by group, with the gradient in the same sweep.

    s_i = sum_j w_j f(x_i, y_j)        f = ||x_i - y_j||   ("distance")   or   |<x_i, y_j>|   ("absolute")

No n x m matrix is kept: the sweep walks over blocks of y, and each block that is in the cache serves two
products, the pairs and their gradient. With W = w / d (0 at coincident points) or W = w sign<x, y>,

    ds_i/dx_i = x_i sum_j W_ij - (W y)_i      or      (W y)_i

Cost: 4 n m D operations with that gradient, 2 n m D without; a gradient to y as well is one more sweep, in
the backward pass. Memory: n + m rows and a block. The order of all sums is fixed: two runs agree bitwise.

Precision of distances: ||x||^2 + ||y||^2 - 2 <x, y> cancels, so callers center both sides on one point, and
then "high" keeps the error of d^2 within 5e-7 (||x||^2 + ||y||^2). Points that the same bound cannot tell
apart count as coincident: distance 0, gradient 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .autograd import Context
from .dispatch import HAS_TRITON, uses_triton
from .pair_tile import slope as slope_of_block
from .pair_tile import torch_tile
from .product import add_product, multiply

if HAS_TRITON:
    from .gpu.pairs import pair_tile

Kind = Literal["distance", "absolute"]
Options = tuple[str, bool, str]
"""kind, exclude_diagonal and precision of ``pair_sums``"""

_CACHED = 1 << 20  # numbers of y worked on at a time: 4 MB of float32, which a CPU's cache holds
_PAIRS = 1 << 22  # pairs alive at a time; a few temporaries of this many numbers
_PAIRS_OF_A_CPU = 1 << 18  # pairs of several groups: the passes over them stay in a CPU's cache
_ROWS, _COLUMNS = (
    1 << 10,
    1 << 11,
)  # largest block of one group on a CPU: 8 MB, in one buffer used again and again
_ALIGNED = 16  # columns of such a block come in whole lines of memory, or the product takes a fifth longer

# -- reference -------------------------------------------------------------------------------------


def pair_sums_reference(
    x: Tensor,
    y: Tensor,
    y_weight: Tensor | None = None,
    kind: Kind = "distance",
    exclude_diagonal: bool = False,
) -> Tensor:
    """The definition, every pair written out; NaN gradient at coincident points."""
    distance = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()
    pairs = distance if kind == "distance" else (x @ y.mT).abs()
    if exclude_diagonal:
        pairs = pairs * (1 - torch.eye(*pairs.shape[-2:], dtype=x.dtype, device=x.device))
    return (pairs if y_weight is None else pairs * y_weight.unsqueeze(-2)).sum(-1)


# -- the sweep -------------------------------------------------------------------------------------


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Groups, rows of x and rows of y of each block, so that y fits the cache and the pairs fit in memory."""
    (G, n, D), m = x.shape, y.shape[1]
    if x.is_cuda:  # filled by large blocks, whatever its cache
        rows = min(n, _PAIRS // 16)
        columns = min(m, max(16, _PAIRS // max(rows, 1)))
        groups = max(1, _PAIRS // max(rows * columns, 1))
    elif G == 1:  # one large product after the other
        groups, rows = 1, min(n, _ROWS)
        parts = -(-m // min(_COLUMNS, max(_ALIGNED, _PAIRS // max(rows, 1))))
        columns = -(-m // max(parts * _ALIGNED, 1)) * _ALIGNED
    else:
        rows = min(n, _PAIRS // 16)
        columns = min(m, max(16, min(_PAIRS // max(rows, 1), _CACHED // max(D, 1))))
        groups = max(1, min(_PAIRS, _PAIRS_OF_A_CPU) // max(rows * columns, 1))
    for group in range(0, G, groups):
        for row in range(0, n, max(rows, 1)):
            for column in range(0, m, max(columns, 1)):
                yield slice(group, group + groups), slice(row, row + rows), slice(column, column + columns)


def _add_product(total: Tensor, a: Tensor, b: Tensor, precision: str) -> None:
    """Add a b [G, n, D] to the total; that of one group needs no buffer."""
    if len(a) == 1 and not a.is_cuda:
        add_product(total[0], a[0], b[0], alpha=1, precision=precision)
    else:
        total.add_(multiply(a, b, precision))


def _sweep(
    x: Tensor,
    y: Tensor,
    y_square: Tensor,
    y_weight: Tensor | None,
    kind: str,
    exclude_diagonal: bool,
    precision: str,
    need_slope: bool,
) -> tuple[Tensor, Tensor]:
    """Sums [G, n], and their gradients by x [G, n, D] (empty where not needed)."""
    sums = x.new_zeros(x.shape[:2])
    grad = x.new_zeros(x.shape if need_slope else 0)
    x_square = x.square().sum(-1) if kind == "distance" else sums
    row_sum = torch.zeros_like(sums)
    tile = pair_tile if uses_triton(x) and x.dtype == torch.float32 else torch_tile
    for groups, rows, columns in _blocks(x, y):
        part, other = x[groups, rows], y[groups, columns]
        weight = None if y_weight is None else y_weight[groups, columns]
        # The diagonal of a later block of rows begins before its columns: the first column is negative then.
        diagonal = columns.start - rows.start if exclude_diagonal else None
        total, slope = tile(
            part,
            other,
            x_square[groups, rows],
            y_square[groups, columns],
            weight=weight,
            kind=kind,
            diagonal=diagonal,
            precision=precision,
            need_slope=need_slope,
        )
        sums[groups, rows].add_(total)
        if slope is not None:
            row_sum[groups, rows].add_(slope.sum(-1))
            _add_product(grad[groups, rows], slope, other, precision)
    if need_slope and kind == "distance":
        grad.neg_().addcmul_(x, row_sum.unsqueeze(-1))
    return sums, grad


# -- autograd (eager) and operator registration (torch.compile) ----------------------------------------


class _Slope(torch.autograd.Function):
    """The gradient of the sums by x, already known or not, with a gradient of its own in bounded memory."""

    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor,
        weight: Tensor,
        known: Tensor | None,
        kind: str,
        exclude_diagonal: bool,
        precision: str,
    ) -> Tensor:
        if known is not None:
            return known.clone()
        return _sweep(x, y, _squares(y, kind), weight, kind, exclude_diagonal, precision, True)[1]

    @staticmethod
    def setup_context(
        ctx: Context[Options],
        inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, str, bool, str],
        output: Tensor,
    ) -> None:
        ctx.options = inputs[4:]
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Context[Options], upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved, (kind, exclude_diagonal, precision) = ctx.saved_tensors, ctx.options
        x, y = saved[:2]
        totals = [torch.zeros_like(tensor) for tensor in saved]
        for groups, rows, columns in _blocks(x, y):
            places = ((groups, rows), (groups, columns), (groups, columns))
            parts = [t[at].detach().requires_grad_() for t, at in zip(saved, places, strict=True)]
            diagonal = columns.start - rows.start if exclude_diagonal else None
            with torch.enable_grad():
                slope = slope_of_block(parts[0], parts[1], parts[2], kind, diagonal, precision)
            grads = torch.autograd.grad(slope, parts, upstream[groups, rows], materialize_grads=True)
            for total, at, grad in zip(totals, places, grads, strict=True):
                total[at].add_(grad)
        return *totals, None, None, None, None


def _squares(y: Tensor, kind: str) -> Tensor:
    return y.square().sum(-1) if kind == "distance" else y.new_zeros(()).expand(y.shape[:2])


_pair_sums_op = torch.library.custom_op("fastdd_kernels::pair_sums", _sweep, mutates_args=())


@_pair_sums_op.register_fake
def _pair_sums_fake(x: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    need_slope = rest[-1]
    return x.new_empty(x.shape[:2]), x.new_empty(x.shape if need_slope else 0)


def _setup_context(
    ctx: Context[Options],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, str, bool, str, bool],
    output: tuple[Tensor, Tensor],
) -> None:
    x, y, _, y_weight, *_ = inputs
    ctx.options = inputs[4:7]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, y, y_weight, output[1])


def _op_backward(ctx: Context[Options], upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, y, y_weight, slope = ctx.saved_tensors
    grad_x = upstream.unsqueeze(-1) * slope if ctx.needs_input_grad[0] else None
    grad_y = None
    if ctx.needs_input_grad[1]:
        # The sums from y's side: the pairs are the same, and each x_i weighs what its own sum does.
        upstream = upstream.contiguous()
        grad_y = _pair_sums_op(y, x, _squares(x, ctx.options[0]), upstream, *ctx.options, True)[1]
        grad_y = grad_y if y_weight is None else grad_y * y_weight.unsqueeze(-1)
    return grad_x, grad_y, *[None] * 6


_pair_sums_op.register_autograd(_op_backward, setup_context=_setup_context)


class _PairSums(torch.autograd.Function):
    forward = staticmethod(_sweep)
    setup_context = staticmethod(_setup_context)

    @staticmethod
    def backward(ctx: Context[Options], upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, y, y_weight, slope = ctx.saved_tensors
        ones = x.new_ones(()).expand(y.shape[:2]) if y_weight is None else y_weight
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            # Under create_graph the known slope would be a constant to autograd.
            slope = _Slope.apply(x, y, ones, slope, *ctx.options) if torch.is_grad_enabled() else slope
            grad_x = upstream.unsqueeze(-1) * slope
        if ctx.needs_input_grad[1]:
            grad_y = ones.unsqueeze(-1) * _Slope.apply(y, x, upstream, None, *ctx.options)
        return grad_x, grad_y, *[None] * 6


def pair_sums(
    x: Tensor,
    y: Tensor,
    y_square: Tensor | None = None,
    y_weight: Tensor | None = None,
    *,
    kind: Kind = "distance",
    exclude_diagonal: bool = False,
    precision: str = "high",
) -> Tensor:
    """Sums s [G, n] over the pairs of each row of x with all rows of y; see the top of the file.

    Differentiable in x and y, twice in eager mode; in bounded memory always.

    Args:
        x, y: [G, n, D] and [G, m, D] of one dtype, float32 or float64; for distances centered on one point.
        y_square: [G, m], ||y||^2 where it is known already.
        y_weight: [G, m], the constants w.
        kind: "distance" or "absolute".
        exclude_diagonal: leave out the pairs of equal index.
        precision: "high" or "fast".
    """
    y_square = _squares(y.detach(), kind) if y_square is None else y_square
    need_slope = torch.is_grad_enabled() and x.requires_grad
    run = _pair_sums_op if torch.compiler.is_compiling() else _PairSums.apply
    sums: Tensor = run(x, y, y_square, y_weight, kind, exclude_diagonal, precision, need_slope)[0]
    return sums
