"""What is counted with nearest neighbours: coverage, density, precision, recall.

    r_i       = distance of x_i to its k-th nearest other row of x                    (``nearest.py``)
    coverage  = mean_i [ min_j d(real_i, syn_j) < r_i ]          r of the real rows
    density   = mean_j #{ i : d(real_i, syn_j) < r_i } / k
    precision = mean_j [ any i : d(real_i, syn_j) < r_i ]
    recall    = mean_i [ any j : d(real_i, syn_j) < r_j ]        r of the synthetic rows
    (Naeem et al. 2020; Kynkaanniemi et al. 2019)

Exact at any size: only where the bound on the error of a rounded distance leaves a comparison open is the
pair computed again, in float64. A point on the rim of a ball is outside, and a radius of 0 (duplicated
images) contains nothing.

Coverage takes no radii: with m_i the distance to the nearest synthetic row, m_i < r_i exactly if fewer than k
other real rows are within m_i, and counting them is far cheaper than finding the k-th nearest.

Cost: 2 n m D operations for the balls, n^2 D for radii or counts of n real rows; a few tiles and n + m
numbers of memory.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .cosine import check_pair, to_float
from .distance import distance_factor
from .nearest import (
    Rows,
    centered_rows,
    check_features,
    check_neighbours,
    exact_squares,
    knn_radii,
    knn_radii_reference,
    kth_squares,
    slices,
    squares_reference,
    tile_of_squares,
)

_TIE = 1 - 1e-12  # float64 sums of one set of squares in two orders agree far closer than this


class PRDC(NamedTuple):
    """Scalars, float64, on the device of the features."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


# -- reference -------------------------------------------------------------------------------------


def prdc_reference(real: Tensor, synthetic: Tensor, k: int = 5) -> PRDC:
    """The definition, every difference written out."""
    distance = squares_reference(real, synthetic).sqrt()
    in_real = distance < knn_radii_reference(real, k)[:, None] * _TIE
    in_synthetic = distance < knn_radii_reference(synthetic, k)[None] * _TIE
    return PRDC(
        precision=in_real.any(0).double().mean(),
        recall=in_synthetic.any(1).double().mean(),
        density=in_real.sum(0).double().mean() / k,
        coverage=in_real.any(1).double().mean(),
    )


# -- balls -----------------------------------------------------------------------------------------


class _Counts(NamedTuple):
    """How many balls hold a point, by whose balls and by whose points."""

    in_real: Tensor  # [m]: real balls that hold synthetic j
    real_hit: Tensor  # [n]: whether the ball of real i holds any synthetic point
    recalled: Tensor  # [n]: whether any synthetic ball holds real i


def _inside(squares: Tensor, error: Tensor, x: Rows, y: Rows, limit: Tensor) -> Tensor:
    """Whether d^2 < limit, given d^2 with its error; limit broadcasts to [n, m], float64."""
    gap = squares - limit.to(squares.dtype)
    inside = gap < 0
    i, j = (gap.abs() <= error).nonzero(as_tuple=True)
    if len(i):
        inside[i, j] = exact_squares(x.features, y.features, i, j) < limit.expand_as(gap)[i, j] * _TIE
    return inside


def _count(real: Tensor, synthetic: Tensor, real_radii: Tensor | None, syn_radii: Tensor | None) -> _Counts:
    """One sweep over all pairs; a side without radii has no balls."""
    n, m, device = real.shape[0], synthetic.shape[0], real.device
    counts = _Counts(
        torch.zeros(m, dtype=torch.int64, device=device),
        *(torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2)),
    )
    center = real.mean(0)
    x, y = centered_rows(real, center), centered_rows(synthetic, center)
    for rows in slices(real):
        for columns in slices(synthetic):
            mine, other = x.part(rows), y.part(columns)
            squares, error = tile_of_squares(mine, other)
            if real_radii is not None:
                inside = _inside(squares, error, mine, other, real_radii[rows].square()[:, None])
                counts.in_real[columns] += inside.sum(0)
                counts.real_hit[rows] |= inside.any(1)
            if syn_radii is not None:
                inside = _inside(squares, error, mine, other, syn_radii[columns].square()[None])
                counts.recalled[rows] |= inside.any(1)
    return counts


# -- counting within a distance ----------------------------------------------------------------------


def _crowded(x: Tensor, limit: Tensor, k: int) -> Tensor:
    """Whether at least k other rows of x are within sqrt(limit) [n, float64] of each row; a tie is within."""
    n, rows = len(x), centered_rows(x, x.mean(0))
    reach = limit.to(x.dtype)
    eps = torch.finfo(x.dtype).eps
    error = 16 * eps * (rows.square + rows.square.max()) + eps * reach
    low, high = reach - error, reach + error
    sure, possible = (torch.zeros(n, dtype=torch.int64, device=x.device) for _ in range(2))
    flags = x.new_empty(0)
    for mine in slices(x):
        for other in slices(x, mine.start):
            tile, _ = tile_of_squares(rows.part(mine), rows.part(other))
            if mine == other:
                tile.fill_diagonal_(torch.inf)
            # Numbers add up faster than bools.
            flags = flags if flags.shape == tile.shape else torch.empty_like(tile)
            for count, bound in ((sure, low), (possible, high)):
                count[mine] += torch.lt(tile, bound[mine, None], out=flags).sum(1).long()
                if mine != other:
                    count[other] += torch.lt(tile, bound[other], out=flags).sum(0).long()
    open_rows = ((sure < k) & (possible >= k)).nonzero().flatten()
    for i in (open_rows[part] for part in slices(open_rows)):
        for other in slices(x):
            tile, _ = tile_of_squares(rows.part(i), rows.part(other))
            column = torch.arange(other.start, other.start + tile.shape[1], device=x.device)
            unsure = (tile >= low[i, None]) & (tile < high[i, None]) & (i[:, None] != column)
            a, b = unsure.nonzero(as_tuple=True)
            near = exact_squares(x, x, i[a], column[b]) * _TIE <= limit[i[a]]
            sure.index_add_(0, i[a], near.long())
    return sure >= k


# -- public functions --------------------------------------------------------------------------------


def _prepare(real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in one dtype, multiplied by a power of two where their squares leave its range; and that."""
    check_pair(real, synthetic, ndim=2)
    check_features("real", real)
    check_features("synthetic", synthetic)
    real, synthetic = to_float(real.detach(), synthetic.detach())
    factor = distance_factor(real, synthetic)
    if factor == 1:  # and no copies
        return real, synthetic, factor
    return real * factor, synthetic * factor, factor


def _radii(name: str, x: Tensor, k: int, radii: Tensor | None, factor: Tensor) -> Tensor:
    """The radii of x, which has been multiplied by the factor; those that are given have not."""
    if radii is None:
        return knn_radii(x, k)
    if radii.shape != x.shape[:1]:
        raise ValueError(f"the radii of {name} must be [{x.shape[0]}], got {tuple(radii.shape)}")
    return radii.double() * factor


def prdc(
    real: Tensor,
    synthetic: Tensor,
    k: int = 5,
    *,
    real_radii: Tensor | None = None,
    synthetic_radii: Tensor | None = None,
) -> PRDC:
    """Precision, recall, density and coverage in one sweep over the pairs.

    Args:
        real: features [n, D], n > k, any real float dtype.
        synthetic: features [m, D], m > k.
        k: neighbours that set the radius of a ball.
        real_radii: ``knn_radii(real, k)`` if already known; likewise ``synthetic_radii``.

    Raises:
        ValueError: an input is empty or not finite, shapes do not fit, or a side has k rows or fewer.
        TypeError: an input is not floating point.
    """
    real, synthetic, factor = _prepare(real, synthetic)
    real_radii = _radii("real", real, k, real_radii, factor)
    synthetic_radii = _radii("synthetic", synthetic, k, synthetic_radii, factor)
    counts = _count(real, synthetic, real_radii, synthetic_radii)
    return PRDC(
        precision=counts.in_real.gt(0).double().mean(),
        recall=counts.recalled.double().mean(),
        density=counts.in_real.double().mean() / k,
        coverage=counts.real_hit.double().mean(),
    )


def coverage(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Share of real rows with a synthetic row nearer than their k-th real neighbour; see ``prdc``."""
    real, synthetic, factor = _prepare(real, synthetic)
    if real_radii is None:
        check_neighbours("real", real, k)
        return (~_crowded(real, kth_squares(real, synthetic, 1), k)).double().mean()
    counts = _count(real, synthetic, _radii("real", real, k, real_radii, factor), None)
    return counts.real_hit.double().mean()


def density(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Mean number of real balls that hold a synthetic row, over k; can exceed 1. See ``prdc``."""
    real, synthetic, factor = _prepare(real, synthetic)
    counts = _count(real, synthetic, _radii("real", real, k, real_radii, factor), None)
    return counts.in_real.double().mean() / k


def precision(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Share of synthetic rows inside at least one real ball; see ``prdc``."""
    real, synthetic, factor = _prepare(real, synthetic)
    counts = _count(real, synthetic, _radii("real", real, k, real_radii, factor), None)
    return counts.in_real.gt(0).double().mean()


def recall(real: Tensor, synthetic: Tensor, k: int = 5, *, synthetic_radii: Tensor | None = None) -> Tensor:
    """Share of real rows inside at least one synthetic ball, m > k; see ``prdc``."""
    real, synthetic, factor = _prepare(real, synthetic)
    counts = _count(real, synthetic, None, _radii("synthetic", synthetic, k, synthetic_radii, factor))
    return counts.recalled.double().mean()
