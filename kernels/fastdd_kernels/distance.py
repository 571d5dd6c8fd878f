"""All-pairs Euclidean distance: the matrix, and sums of it in bounded memory.

    d_ij = sqrt(max(||x_i||^2 + ||y_j||^2 - 2 <x_i, y_j>, 0))        one matrix product
    d/dx_i sum_j d_ij = sum_j (x_i - y_j) / d_ij

The expanded square cancels, so both sides are first shifted by one shared center c, which changes no
distance: the error of d^2 is then at most 5e-7 (||x - c||^2 + ||y - c||^2) in float32 whatever the common
offset. Below that two points cannot be told apart: they count as coincident, with distance 0 and gradient 0.

Sums take the sweep of ``pairs.py``: nothing n x m is kept, the gradient comes with the value. Cost: 4 n m D
operations with a gradient to x, 2 n m D without, and n + m rows of memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cosine import Reduction, check_pair, check_reduction, pair_count, range_factor, to_float
from .pair_tile import distance_matrix
from .pairs import pair_sums
from .product import Precision, check_precision

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


# -- public functions --------------------------------------------------------------------------------


def distance_factor(x: Tensor, y: Tensor) -> Tensor:
    """The power of two, [], that brings the rows of both sides together to where float32 holds their squares.

    Distances of the rows times the factor are the distances times the factor.
    """
    sides = [side.detach() for side in (x, y) if side.numel()]
    # On a CPU a tenth of the time of an infinity norm, which is as large.
    largest = [torch.stack(side.aminmax()).abs().amax() for side in sides]
    return range_factor(torch.stack([*largest, x.new_zeros(())]).amax().square())


def _factor_to_apply(x: Tensor, y: Tensor) -> Tensor | None:
    """:func:`distance_factor`, or None where it is known to be 1: on a CPU, where looking costs no wait."""
    factor = distance_factor(x, y)
    looks = not (x.is_cuda or torch.compiler.is_compiling())
    return None if looks and factor == 1 else factor


def shared_center(y: Tensor, y_weight: Tensor | None = None) -> Tensor:
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
        precision: "high": the error of d^2 is at most 5e-7 (||x-c||^2 + ||y-c||^2), c the mean of
            y, whatever the process allows. "fast": one product in whatever float32 arithmetic the
            process allows, rounded TF32 in the Triton kernel: at most 1e-3 in place of 5e-7.

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
    factor = _factor_to_apply(x, other)
    if factor is not None:
        x, other = x * factor, other * factor
    center = shared_center(other, y_weight)
    centered = x - center
    other = centered if y is None else other - center
    sums = pair_sums(
        centered, other, y_weight=y_weight, exclude_diagonal=exclude_diagonal_pairs, precision=precision
    ).sum(1)
    return sums if factor is None else sums / factor


def distance_mean(
    x: Tensor, y: Tensor | None = None, *, exclude_diagonal_pairs: bool = False, precision: Precision = "high"
) -> Tensor:
    """Mean of the distances that :func:`distance_sum` adds up, 0 where there are none; arguments as there."""
    total = distance_sum(x, y, exclude_diagonal_pairs=exclude_diagonal_pairs, precision=precision)
    return total / pair_count(x, y, exclude_diagonal_pairs)


def pairwise_euclidean_distance(
    x: Tensor,
    y: Tensor | None = None,
    reduction: Reduction = None,
    zero_diagonal: bool | None = None,
    precision: Precision = "high",
) -> Tensor:
    """Distance of every row of x to every row of y; a drop-in for torchmetrics' function.

    It differs from the original in that it stays in the precision of its input, never takes the root of a
    negative number, has a finite gradient everywhere, and keeps no [n, m] matrix where a reduction is asked
    for.

    Args:
        x: [n, D], any real float dtype.
        y: [m, D]; x itself if not given.
        reduction: over the last dimension (the rows of y): "mean", "sum", or none of them.
        zero_diagonal: count the pairs (i, i) as 0, also where y is given and n differs from m. By
            default only when y is not given. A mean still divides by m.
        precision: "high" or "fast", as for :func:`distance_sum`.

    Returns:
        [n, m], or [n] with a reduction; float64 if x or y is, float32 otherwise.

    Raises:
        ValueError: x or y is not a matrix, their widths differ, or the reduction or precision is unknown.
        TypeError: x or y is not floating point.
    """
    check_pair(x, y, ndim=2)
    check_reduction(reduction)
    check_precision(precision)
    without_diagonal = y is None if zero_diagonal is None else zero_diagonal
    x, other = to_float(x, x if y is None else y)
    factor = _factor_to_apply(x, other)
    if factor is not None:
        x, other = x * factor, other * factor
    center = shared_center(other)
    x, other = x - center, other - center
    if reduction in ("mean", "sum"):
        found = pair_sums(x[None], other[None], exclude_diagonal=without_diagonal, precision=precision)[0]
        found = found / other.shape[0] if reduction == "mean" else found
    else:
        found = distance_matrix(x, other, without_diagonal=without_diagonal, precision=precision)
    return found if factor is None else found / factor
