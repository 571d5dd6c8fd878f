"""Symmetric matrices as targets: three forms of a covariance, and what a loss computes from each.

    dense      [G, D, D]
    packed     [G, D(D+1)/2], the lower triangle row after row
    low rank   F Ft + diag(d), F [G, D, r]: the leading directions, and what is left of each variance

A loss needs two numbers of a target C and rows Z [G, n, D]. Neither needs a D x D matrix that is not
there already:

                  dense              packed, L its lower triangle     low rank
    sum(ZtZ * C)  sum((Z C) * Z)     Z C = Z L + Z Lt - Z diag(L)     ||Z F||^2 + sum(Z^2 d)
      operations  2 n D^2            2 n D^2                          2 n D r
      reads       D^2                D^2 / 2                          D r
    ||C||_F^2     sum of squares     2 ||L||^2 - ||diag(L)||^2        ||FtF||^2 + 2 sum(d ||F_i||^2) + ||d||^2
      operations  2 D^2              D^2                              2 D r^2

Times G. The gradient of the first is 2 Z C, known from the value if C is dense or packed, and
2 n D r operations more if it is low rank.

Precision: products err like float32 (``product.py``). Long sums of squares go row by row: one float32
norm over D^2 = 2,048^2 numbers at once is off by 1e-4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .autograd import Context
from .product import matmul

_BAND = 1 << 20  # numbers of packed matrices written out at a time on a CPU, 4 MB of float32


class LowRankCovariance(NamedTuple):
    """The covariances F Ft + diag(d) of G classes; made by :func:`low_rank_covariance`, or by hand.

    The m centered real rows of a class, transposed and divided by sqrt(m), are an exact factor of rank m.

    Attributes:
        factor: F, [G, D, r], r >= 0, any float dtype.
        diagonal: d, [G, D]; None for zero.
    """

    factor: Tensor
    diagonal: Tensor | None = None


Covariance = Tensor | LowRankCovariance
"""[G, D, D], packed [G, D(D+1)/2], or low rank"""

# -- reference -------------------------------------------------------------------------------------


def dense_covariance(covariance: Covariance) -> Tensor:
    """A covariance of any of the three forms as a dense [G, D, D]."""
    if isinstance(covariance, Tensor):
        return unpack_symmetric(covariance) if covariance.ndim == 2 else covariance
    dense = covariance.factor @ covariance.factor.mT
    return dense if covariance.diagonal is None else dense + torch.diag_embed(covariance.diagonal)


# -- the packed triangle ---------------------------------------------------------------------------


def _dim_of_packed(packed: Tensor) -> int:
    length = packed.shape[-1] if packed.ndim else 0
    dim = int((2 * length) ** 0.5)
    if dim * (dim + 1) // 2 != length or not length:
        raise ValueError(f"packed must be [..., D(D+1)/2] for some D, got {tuple(packed.shape)}")
    return dim


def _start(row: Tensor) -> Tensor:
    """Where in the packed triangle the rows of these indices start."""
    return row * (row + 1) // 2


def _packed_diagonal(packed: Tensor) -> Tensor:
    i = torch.arange(_dim_of_packed(packed), device=packed.device)
    return packed.index_select(-1, _start(i) + i)


# -- rows times a constant symmetric matrix ----------------------------------------------------------


def _times(rows: Tensor, covariance: Tensor) -> Tensor:
    """Z C [G, n, D] for a dense or packed C of any float dtype."""
    if covariance.ndim == 3:
        return matmul(rows, covariance.to(rows.dtype))
    groups, _, dim = rows.shape
    # Beside n G D^2 multiplications, writing C out costs G D^2 numbers written and read back. On a CPU,
    # where n is small and fresh memory dear, that can be most of the time: a C too large for the cache
    # goes band by band, 5 times faster for n = 10 and D = 2,048. Elsewhere one gather and one product
    # are fewer launches, or a smaller graph.
    if rows.device.type != "cpu" or torch.compiler.is_compiling() or groups * dim * dim <= _BAND:
        return matmul(rows, unpack_symmetric(covariance).to(rows.dtype))
    product = -rows * _packed_diagonal(covariance).to(rows.dtype).unsqueeze(1)
    step = max(_BAND // (groups * dim), -(-dim // 16))
    for start in range(0, dim, step):
        stop = min(start + step, dim)
        band = _band(covariance, start, stop).to(rows.dtype)
        product[..., :stop] += matmul(rows[..., start:stop], band)
        product[..., start:stop] += matmul(rows[..., :stop], band.mT)
    return product


def _band(packed: Tensor, start: int, stop: int) -> Tensor:
    """Rows start..stop of the lower triangles, [G, stop - start, stop], zero above the diagonal."""
    row = torch.arange(start, stop, device=packed.device)
    # Past its diagonal a row runs on into those below, still inside the triangle; tril cuts that off.
    index = _start(row).unsqueeze(1) + torch.arange(stop, device=packed.device)
    return packed.index_select(1, index.flatten()).unflatten(1, index.shape).tril_(start)


class _Times(torch.autograd.Function):
    """Z C with a constant C. C is its own transpose, so the gradient is the same product again."""

    @staticmethod
    def forward(rows: Tensor, covariance: Tensor) -> Tensor:
        return _times(rows, covariance)

    @staticmethod
    def setup_context(ctx: Context[None], inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Context[None], *grads: Tensor) -> tuple[Tensor, None]:
        return _Times.apply(grads[0], *ctx.saved_tensors), None


class _QuadraticForm(torch.autograd.Function):
    """sum((Z C) * Z) with a constant C. Z C is half the gradient, so it is kept."""

    @staticmethod
    def forward(rows: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        product = _times(rows, covariance)
        return (product * rows).sum((1, 2)), product

    @staticmethod
    def setup_context(
        ctx: Context[None], inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]
    ) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Context[None], *grads: Tensor) -> tuple[Tensor, None]:
        rows, covariance, product = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the kept product would be a constant to autograd
            product = _Times.apply(rows, covariance)
        return 2 * grads[0].view(-1, 1, 1) * product, None


# -- what a loss asks of a covariance ----------------------------------------------------------------


def quadratic_form(rows: Tensor, covariance: Covariance) -> Tensor:
    """sum(ZtZ * C) [G] of rows Z [G, n, D], in their dtype; twice differentiable in the rows."""
    if isinstance(covariance, LowRankCovariance):
        value = matmul(rows, covariance.factor.to(rows.dtype)).square().sum((1, 2))
        if covariance.diagonal is None:
            return value
        return value + (rows.square().sum(1) * covariance.diagonal.to(rows.dtype)).sum(1)
    if covariance.requires_grad:  # a rare target that is learned: the plain form, gradients to both
        return (matmul(rows, dense_covariance(covariance).to(rows.dtype)) * rows).sum((1, 2))
    value, _ = _QuadraticForm.apply(rows, covariance)
    return value


def square_norm(covariance: Covariance, dtype: torch.dtype = torch.float32) -> Tensor:
    """||C||_F^2, [G], in the dtype of the covariance or the given one, whichever is more precise."""
    if isinstance(covariance, LowRankCovariance):
        factor = _at_least(covariance.factor, dtype)
        value = matmul(factor.mT, factor).square().sum((1, 2))
        if covariance.diagonal is None:
            return value
        diagonal = covariance.diagonal.to(factor.dtype)
        return value + ((2 * factor.square().sum(2) + diagonal) * diagonal).sum(1)
    if covariance.ndim == 3:
        return _sum_of_squares(covariance, dtype)
    # D(D+1)/2 numbers are whole rows of D+1 if D is even, and of D if it is odd.
    triangle = covariance.unflatten(1, (-1, _dim_of_packed(covariance) | 1))
    diagonal = _at_least(_packed_diagonal(covariance), dtype)
    return 2 * _sum_of_squares(triangle, dtype) - diagonal.square().sum(1)


def _sum_of_squares(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[G, k, m] -> [G] without a temporary of that size."""
    return torch.linalg.vector_norm(x, dim=2, dtype=torch.promote_types(x.dtype, dtype)).square().sum(1)


def _at_least(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(torch.promote_types(x.dtype, dtype))


# -- public functions ------------------------------------------------------------------------------


def pack_symmetric(matrix: Tensor) -> Tensor:
    """Lower triangle of symmetric matrices, row after row: [..., D, D] -> [..., D(D+1)/2].

    Raises:
        ValueError: the last two dimensions are not a square.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix must be [..., D, D], got {tuple(matrix.shape)}")
    dim = matrix.shape[-1]
    row, column = torch.tril_indices(dim, dim, device=matrix.device)
    return matrix.flatten(-2).index_select(-1, row * dim + column)


def unpack_symmetric(packed: Tensor) -> Tensor:
    """Symmetric matrices from their packed lower triangles: [..., D(D+1)/2] -> [..., D, D].

    Raises:
        ValueError: the last dimension is not D(D+1)/2 for any D.
    """
    dim = _dim_of_packed(packed)
    i = torch.arange(dim, device=packed.device)
    start = _start(i)  # ascending: the larger index has the larger start
    index = torch.maximum(start.unsqueeze(1), start) + torch.minimum(i.unsqueeze(1), i)
    return packed.index_select(-1, index.flatten()).unflatten(-1, (dim, dim))


@torch.no_grad()
def low_rank_covariance(covariance: Tensor, rank: int) -> tuple[LowRankCovariance, Tensor]:
    """The leading eigenpairs of each covariance, and the diagonal of what they leave.

    The variances stay exact (to rounding); of the covariances, the directions of most variance stay.
    Done once, by a full eigendecomposition of D^3 operations in the precision of the input.

    Args:
        covariance: [G, D, D] or packed [G, D(D+1)/2], any float dtype.
        rank: eigenpairs kept, 0 (the diagonal alone) to D (everything).

    Returns:
        The covariances in low-rank form, and the energy they discard: ||C - (F Ft + diag(d))||_F^2 as a
        part of ||C||_F^2, [G], from 0 to 1. Both in float32 (float64 for float64 input).

    Raises:
        ValueError: the shape is none of those, or the rank is not in 0..D.
    """
    if covariance.ndim not in (2, 3) or (covariance.ndim == 3 and covariance.shape[1] != covariance.shape[2]):
        raise ValueError(
            f"covariance must be [G, D, D] or packed [G, D(D+1)/2], got {tuple(covariance.shape)}"
        )
    dense = _at_least(dense_covariance(covariance), torch.float32)
    dim = dense.shape[2]
    if not 0 <= rank <= dim:
        raise ValueError(f"rank must be from 0 to {dim}, the number of features, got {rank}")
    values, vectors = torch.linalg.eigh(dense)  # ascending
    factor = vectors[..., dim - rank :] * values[:, None, dim - rank :].clamp(min=0).sqrt()
    residual = dense - matmul(factor, factor.mT)
    variances = residual.diagonal(dim1=1, dim2=2)
    diagonal = variances.clamp(min=0)
    variances -= diagonal
    total = _sum_of_squares(dense).clamp(min=torch.finfo(dense.dtype).tiny)
    return LowRankCovariance(factor, diagonal), _sum_of_squares(residual) / total
