"""All-pairs cosine similarity: the matrix where it is wanted, a closed form where only sums are.

    cos(x, y) = <x, y> / (||x|| ||y||)
    sum_ij cos(x_i, y_j) = <sum_i u_i, sum_j v_j>        u = x / ||x||,  v = y / ||y||

so a sum or mean over n x m pairs costs (n + m) D operations and no pair is ever formed. Without
the pairs (i, i) of a set with itself it is ||sum_i u_i||^2 minus the number of nonzero rows, since
each of those cosines is exactly 1.

A zero row has no direction: its cosine with everything is 0, and so is its gradient. (A row counts
as zero when its squared norm is not representable, below about 1e-19 in float32. What measures, and is no
loss, first multiplies such rows by a power of two, which rounds nothing.)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .pairs import pair_sums
from .product import Precision, check_precision, matmul

Reduction = Literal["mean", "sum", "none"] | None

# -- reference -------------------------------------------------------------------------------------


def cosine_sum_reference(x: Tensor, y: Tensor | None = None, exclude_diagonal: bool = False) -> Tensor:
    """The definition, every pair written out, in the precision of the input; NaN for a zero row."""
    y = x if y is None else y
    cosine = (x / x.norm(dim=-1, keepdim=True)) @ (y / y.norm(dim=-1, keepdim=True)).mT
    if exclude_diagonal:
        cosine = cosine * (1 - torch.eye(*cosine.shape[-2:], dtype=x.dtype, device=x.device))
    return cosine.sum((-2, -1))


# -- building blocks, shared with the other pair operators -------------------------------------------


def to_float(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one common dtype: float64 if any of them is, float32 otherwise.

    Raises:
        TypeError: one of them is not a real floating-point tensor.
    """
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(f"features must be a real floating-point tensor, got {tensor.dtype}")
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return tuple(tensor.to(torch.float64 if double else torch.float32) for tensor in tensors)


def range_factor(square: Tensor) -> Tensor:
    """Powers of two that bring numbers to where float32 holds their squares; 1 where it does."""
    return torch.where(square > 2.0**80, 2.0**-80, torch.where(square < 2.0**-80, 2.0**90, 1.0)).to(square)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of x [..., D] divided by their norm; a zero row stays zero, with zero gradient."""
    square = (x * x).sum(-1, keepdim=True)
    zero = square == 0
    # The root never sees the zero, so its infinite slope cannot turn into NaN further back.
    return x * torch.where(zero, 0.0, torch.where(zero, 1.0, square).rsqrt())


def rows_in_range(x: Tensor) -> Tensor:
    """Rows of x [..., D], each times a power of two that makes its squared norm representable.

    A loss does without: one more step of autograd adds gradients up in another order, and so with other
    rounding.
    """
    with torch.no_grad():
        factor = range_factor((x * x).sum(-1, keepdim=True))
    return x * factor


def check_pair(x: Tensor, y: Tensor | None, ndim: int) -> None:
    """Raise a ValueError unless x is [..., n, D] and y, if given, [..., m, D], both with ndim axes."""
    shape = ("[n, D]", "[G, n, D]")[ndim - 2]
    if x.ndim != ndim:
        raise ValueError(f"x must be {shape}, got {tuple(x.shape)}")
    if y is not None and (y.ndim != ndim or y.shape[-1] != x.shape[-1] or y.shape[:-2] != x.shape[:-2]):
        wanted = (*x.shape[:-2], "m", x.shape[-1])
        raise ValueError(f"y must be {wanted} to match x {tuple(x.shape)}, got {tuple(y.shape)}")


def check_reduction(reduction: Reduction) -> None:
    """Raise a ValueError unless the reduction is one of 'mean', 'sum', 'none' and None."""
    if reduction not in ("mean", "sum", "none", None):
        raise ValueError(f"reduction must be 'mean', 'sum', 'none' or None, got {reduction!r}")


# -- public functions --------------------------------------------------------------------------------


def pairwise_cosine_similarity(
    x: Tensor,
    y: Tensor | None = None,
    reduction: Reduction = None,
    zero_diagonal: bool | None = None,
    precision: Precision = "high",
) -> Tensor:
    """Cosine similarity of every row of x with every row of y; a drop-in for torchmetrics' function.

    It differs from the original in that a zero row gives 0 instead of NaN, and that a reduction
    costs (n + m) D operations instead of n m D. Differentiable, twice as well.

    Args:
        x: [n, D], any real float dtype.
        y: [m, D]; x itself if not given.
        reduction: over the last dimension (the rows of y): "mean", "sum", or none of them.
        zero_diagonal: count the pairs (i, i) as 0, also where y is given and n differs from m. By
            default only when y is not given. A mean still divides by m.
        precision: precision of the product: "high", float32 whatever the process allows, or "fast", what it
            allows.

    Returns:
        [n, m], or [n] with a reduction; float64 if x or y is, float32 otherwise.

    Raises:
        ValueError: x or y is not a matrix, their widths differ, or the reduction or precision is unknown.
        TypeError: x or y is not floating point.
    """
    check_pair(x, y, ndim=2)
    check_reduction(reduction)
    check_precision(precision)
    x, other = to_float(x, x if y is None else y)
    u = unit_rows(rows_in_range(x))
    v = u if y is None else unit_rows(rows_in_range(other))
    without_diagonal = y is None if zero_diagonal is None else zero_diagonal
    if reduction in ("mean", "sum"):
        return _reduced_rows(u, v, without_diagonal) / (v.shape[0] if reduction == "mean" else 1)
    cosine = matmul(u, v.mT, precision)
    if without_diagonal:
        diagonal = torch.eye(*cosine.shape, dtype=torch.bool, device=cosine.device)
        cosine = cosine.masked_fill(diagonal, 0.0)
    return cosine


def _reduced_rows(u: Tensor, v: Tensor, without_diagonal: bool) -> Tensor:
    """sum_j <u_i, v_j> for each i, [n], with or without j = i."""
    total = (u * v.sum(0)).sum(1)
    if without_diagonal:
        k = min(u.shape[0], v.shape[0])
        total = total - F.pad((u[:k] * v[:k]).sum(1), (0, u.shape[0] - k))
    return total


def _absolute_sum(u: Tensor, v: Tensor, exclude_diagonal: bool, precision: Precision) -> Tensor:
    """sum_ij |<u_i, v_j>| of unit rows, [G]; there is no closed form for features of either sign."""
    (n, D), m = u.shape[1:], v.shape[1]
    if n * m > (n + m) * D:
        return pair_sums(u, v, kind="absolute", exclude_diagonal=exclude_diagonal, precision=precision).sum(1)
    # There are fewer pairs than numbers in the rows: written out, they take no more memory than these.
    cosine = matmul(u, v.mT, precision)
    if exclude_diagonal:
        cosine = cosine.masked_fill(torch.eye(n, m, dtype=torch.bool, device=u.device), 0.0)
    return cosine.abs().sum((1, 2))


def cosine_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    absolute: bool = False,
    exclude_diagonal: bool = False,
    y_unit_sum: Tensor | None = None,
    precision: Precision = "high",
) -> Tensor:
    """Sum of the cosines of all pairs, group by group (DiRe, eq. 1), in O((n + m) D).

    Args:
        x: [G, n, D], any real float dtype.
        y: [G, m, D]; x itself if neither y nor y_unit_sum is given.
        absolute: sum |cos| instead. That takes the pairs, 4 n m D operations with a gradient, in bounded
            memory; for rows without negative entries it is the plain sum.
        exclude_diagonal: leave out the pairs (i, i), i < min(n, m).
        y_unit_sum: [G, D], ``unit_rows(y).sum(1)`` computed once, in place of a y that does not
            change. A padding row of zeros in y adds nothing to it.
        precision: precision of the products, "high" or "fast"; the closed form has none.

    Returns:
        [G]; float64 if an input is, float32 otherwise. Finite gradients for zero and equal rows.

    Raises:
        ValueError: shapes do not fit, the precision is unknown, both y and y_unit_sum are given, or a y known
            only by its sum is to be summed in absolute value or without its diagonal.
        TypeError: an input is not floating point.
    """
    check_pair(x, y, ndim=3)
    check_precision(precision)
    if y_unit_sum is not None:
        if y is not None or exclude_diagonal or absolute:
            raise ValueError(
                "y_unit_sum stands in for y and knows no single row: drop y, exclude_diagonal, absolute"
            )
        if y_unit_sum.shape != (x.shape[0], x.shape[2]):
            wanted, got = (x.shape[0], x.shape[2]), tuple(y_unit_sum.shape)
            raise ValueError(f"y_unit_sum must be {wanted} to match x {tuple(x.shape)}, got {got}")
        x, y_unit_sum = to_float(x, y_unit_sum)
        return (unit_rows(x).sum(1) * y_unit_sum).sum(1)
    x, other = to_float(x, x if y is None else y)
    u = unit_rows(x)
    v = u if y is None else unit_rows(other)
    if absolute:
        return _absolute_sum(u, v, exclude_diagonal, precision)
    if y is None:
        total = u.sum(1).square().sum(1)
        # Each (i, i) is a constant 1: subtract the count, which adds no rounding to the gradient.
        return total - (x * x).sum(2).ne(0).sum(1) if exclude_diagonal else total
    total = (u.sum(1) * v.sum(1)).sum(1)
    if exclude_diagonal:
        k = min(u.shape[1], v.shape[1])
        total = total - (u[:, :k] * v[:, :k]).sum((1, 2))
    return total


def pair_count(x: Tensor, y: Tensor | None, exclude_diagonal: bool) -> int:
    """Pairs of a group that count, at least 1."""
    n, m = x.shape[-2], x.shape[-2] if y is None else y.shape[-2]
    return max(n * m - (min(n, m) if exclude_diagonal else 0), 1)


def cosine_mean(
    x: Tensor,
    y: Tensor | None = None,
    *,
    absolute: bool = False,
    exclude_diagonal: bool = False,
    precision: Precision = "high",
) -> Tensor:
    """:func:`cosine_sum` over the number of pairs that count; 0 where there are none. Arguments as there."""
    total = cosine_sum(x, y, absolute=absolute, exclude_diagonal=exclude_diagonal, precision=precision)
    return total / pair_count(x, y, exclude_diagonal)


def intra_class_cosine(x: Tensor) -> Tensor:
    """Mean cosine of the n (n - 1) ordered pairs of different rows of one class: how alike they are.

    Args:
        x: embeddings of one class, [n, D], n >= 2.

    Returns:
        A scalar in [-1/(n-1), 1]; float64 if x is, float32 otherwise.

    Raises:
        ValueError: x is not a matrix or has fewer than two rows.
        TypeError: x is not floating point.
    """
    check_pair(x, None, ndim=2)
    n = x.shape[0]
    if n < 2:
        raise ValueError(f"the mean cosine of a class needs at least 2 rows, got x {tuple(x.shape)}")
    (x,) = to_float(x)
    return cosine_mean(rows_in_range(x)[None], exclude_diagonal=True)[0]
