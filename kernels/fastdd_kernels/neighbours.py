"""Nearest neighbours and what is counted with them: coverage, density, precision, recall.

    r_i       = distance of x_i to its k-th nearest other row of x, found by index, not by value
    coverage  = mean_i [ min_j d(real_i, syn_j) < r_i ]          r of the real rows
    density   = mean_j #{ i : d(real_i, syn_j) < r_i } / k
    precision = mean_j [ any i : d(real_i, syn_j) < r_i ]
    recall    = mean_i [ any j : d(real_i, syn_j) < r_j ]        r of the synthetic rows
    (Naeem et al. 2020; Kynkaanniemi et al. 2019)

Exact at any size. Squared distances come in tiles from a centred matrix product, whose error is
bounded; only where that bound leaves a comparison open is the pair computed again, by differences
in float64. Equal distances are therefore equal, never "smaller" by rounding: a point on the rim
of a ball is outside, and a radius of 0 (duplicated images) contains nothing.

Cost: 2 n m D operations, one tile and n + m numbers of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .cosine import check_pair, to_float
from .product import matmul

_TILE = 2048  # rows and columns of a tile of squared distances
_GATHER = 1 << 22  # floats gathered at a time to compute single pairs
_TIE = 1 - 1e-12  # float64 sums of one set of squares in two orders agree far closer than this


class PRDC(NamedTuple):
    """Scalars, float64, on the device of the features."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


# -- reference -------------------------------------------------------------------------------------


def _squares_reference(x: Tensor, y: Tensor) -> Tensor:
    return (x.double()[:, None] - y.double()[None]).square().sum(-1)


def knn_radii_reference(x: Tensor, k: int) -> Tensor:
    """The definition, every difference written out."""
    squares = _squares_reference(x, x).fill_diagonal_(torch.inf)
    return squares.kthvalue(k, dim=1).values.sqrt()


def prdc_reference(real: Tensor, synthetic: Tensor, k: int = 5) -> PRDC:
    """The definition, every difference written out."""
    distance = _squares_reference(real, synthetic).sqrt()
    in_real = distance < knn_radii_reference(real, k)[:, None] * _TIE
    in_synthetic = distance < knn_radii_reference(synthetic, k)[None] * _TIE
    return PRDC(
        precision=in_real.any(0).double().mean(),
        recall=in_synthetic.any(1).double().mean(),
        density=in_real.sum(0).double().mean() / k,
        coverage=in_real.any(1).double().mean(),
    )


# -- squared distances, rounded with a bound or exact ------------------------------------------------


class _Rows(NamedTuple):
    """Features, and the same shifted by a centre, with squared norms [n]."""

    features: Tensor
    centred: Tensor
    square: Tensor

    def part(self, index: slice | Tensor) -> _Rows:
        return _Rows(*(tensor[index] for tensor in self))


def _rows(features: Tensor, centre: Tensor) -> _Rows:
    centred = features - centre
    return _Rows(features, centred, centred.square().sum(1))


def _tile(x: _Rows, y: _Rows) -> tuple[Tensor, Tensor]:
    """Squared distances [n, m] and a bound on their error, over three times the worst observed."""
    scale = x.square[:, None] + y.square[None]
    squares = scale - 2 * matmul(x.centred, y.centred.mT)
    return squares, scale * (16 * torch.finfo(scale.dtype).eps)


def _exact_squares(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """||x_i - y_j||^2 of single pairs [p], by differences in float64."""
    step = max(1, _GATHER // max(x.shape[1], 1))
    parts = [(x[a].double() - y[b].double()).square().sum(1) for a, b in zip(i.split(step), j.split(step), strict=True)]
    return torch.cat(parts)


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + _TILE) for start in range(0, n, _TILE))


# -- radii -----------------------------------------------------------------------------------------


def _kth_squares(x: _Rows, rows: Tensor, k: int, keep: int) -> tuple[Tensor, Tensor]:
    """Exact squared radii of some rows of x, and whether ``keep`` candidates were enough to know.

    The candidates are the pairs with the smallest lower bounds. All others are at least as far as
    the last of those bounds, so the k-th candidate is the k-th neighbour if it is no farther.
    """
    mine, n = x.part(rows), x.features.shape[0]
    bounds = mine.square.new_empty(len(rows), 0)
    nearest = rows.new_empty(len(rows), 0)
    for columns in _slices(n):
        squares, error = _tile(mine, x.part(columns))
        index = torch.arange(n, device=rows.device)[columns].expand(len(rows), -1)
        lower = (squares - error).clamp(min=0).masked_fill(index == rows[:, None], torch.inf)
        bounds = torch.cat((bounds, lower), 1)
        bounds, order = bounds.topk(min(keep, bounds.shape[1]), largest=False)
        nearest = torch.cat((nearest, index), 1).gather(1, order)
    owner = rows[:, None].expand_as(nearest)
    exact = _exact_squares(x.features, x.features, owner.flatten(), nearest.flatten()).view(nearest.shape)
    kth = exact.kthvalue(k, dim=1).values
    return kth, (kth <= bounds[:, -1]) | (keep >= n - 1)


def _squared_radii(x: Tensor, k: int) -> Tensor:
    n = x.shape[0]
    rows = _rows(x, x.mean(0))
    radii = x.new_empty(n, dtype=torch.float64)
    keep = min(2 * k + 8, n - 1)
    for part in _slices(n):
        open_rows, wanted = torch.arange(n, device=x.device)[part], keep
        while len(open_rows):
            squares, known = _kth_squares(rows, open_rows, k, wanted)
            radii[open_rows] = squares
            # Many equal or nearly equal distances: look at more of them.
            open_rows, wanted = open_rows[~known], min(4 * wanted, n - 1)
    return radii


# -- balls -----------------------------------------------------------------------------------------


class _Counts(NamedTuple):
    """How many balls hold a point, by whose balls and by whose points."""

    in_real: Tensor  # [m]: real balls that hold synthetic j
    real_hit: Tensor  # [n]: whether the ball of real i holds any synthetic point
    recalled: Tensor  # [n]: whether any synthetic ball holds real i


def _inside(gap: Tensor, error: Tensor, x: Tensor, y: Tensor, limit: Tensor) -> Tensor:
    """Whether d^2 < limit, given d^2 - limit with its error; limit broadcasts to [n, m], float64."""
    inside = gap < 0
    i, j = (gap.abs() <= error).nonzero(as_tuple=True)
    if len(i):
        inside[i, j] = _exact_squares(x, y, i, j) < limit.expand_as(gap)[i, j] * _TIE
    return inside


def _count(real: Tensor, synthetic: Tensor, real_radii: Tensor | None, syn_radii: Tensor | None) -> _Counts:
    """One sweep over all pairs; a side without radii has no balls."""
    n, m, device = real.shape[0], synthetic.shape[0], real.device
    counts = _Counts(
        torch.zeros(m, dtype=torch.int64, device=device),
        *(torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2)),
    )
    centre = real.mean(0)
    x, y = _rows(real, centre), _rows(synthetic, centre)
    for rows in _slices(n):
        for columns in _slices(m):
            mine, other = x.part(rows), y.part(columns)
            squares, error = _tile(mine, other)
            if real_radii is not None:
                limit = real_radii[rows].square()[:, None]
                gap = squares - limit.to(squares.dtype)
                inside = _inside(gap, error, mine.features, other.features, limit)
                counts.in_real[columns] += inside.sum(0)
                counts.real_hit[rows] |= inside.any(1)
            if syn_radii is not None:
                limit = syn_radii[columns].square()[None]
                gap = squares - limit.to(squares.dtype)
                inside = _inside(gap, error, mine.features, other.features, limit)
                counts.recalled[rows] |= inside.any(1)
    return counts


# -- public functions --------------------------------------------------------------------------------


def _check_features(name: str, x: Tensor) -> None:
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"{name} must be [n, D] with n > 0, got {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError(f"{name} {tuple(x.shape)} holds NaN or infinity; distances need finite features")


def _prepare(real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
    check_pair(real, synthetic, ndim=2)
    _check_features("real", real)
    _check_features("synthetic", synthetic)
    real, synthetic = to_float(real.detach(), synthetic.detach())
    return real, synthetic


def _radii(name: str, x: Tensor, k: int, radii: Tensor | None) -> Tensor:
    if radii is None:
        return knn_radii(x, k)
    if radii.shape != x.shape[:1]:
        raise ValueError(f"the radii of {name} must be [{x.shape[0]}], got {tuple(radii.shape)}")
    return radii.double()


def knn_radii(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other row.

    For the real side of a dataset this never changes: compute it once and store it in float64.

    Args:
        x: features [n, D], any real float dtype; equal rows are neighbours at distance 0.
        k: 1 <= k < n.

    Returns:
        [n], float64, exact to its rounding.

    Raises:
        ValueError: x is not a finite matrix, or k is not in [1, n - 1].
        TypeError: x is not floating point.
    """
    _check_features("x", x)
    n = x.shape[0]
    if not 1 <= k < n:
        raise ValueError(f"a {k}-th nearest other row needs 1 <= k < n, got k = {k} and n = {n} rows")
    (x,) = to_float(x.detach())
    return _squared_radii(x, k).sqrt()


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
    real, synthetic = _prepare(real, synthetic)
    real_radii = _radii("real", real, k, real_radii)
    synthetic_radii = _radii("synthetic", synthetic, k, synthetic_radii)
    counts = _count(real, synthetic, real_radii, synthetic_radii)
    return PRDC(
        precision=counts.in_real.gt(0).double().mean(),
        recall=counts.recalled.double().mean(),
        density=counts.in_real.double().mean() / k,
        coverage=counts.real_hit.double().mean(),
    )


def coverage(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Share of real rows with a synthetic row nearer than their k-th real neighbour; see ``prdc``."""
    real, synthetic = _prepare(real, synthetic)
    counts = _count(real, synthetic, _radii("real", real, k, real_radii), None)
    return counts.real_hit.double().mean()


def density(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Mean number of real balls that hold a synthetic row, over k; can exceed 1. See ``prdc``."""
    real, synthetic = _prepare(real, synthetic)
    counts = _count(real, synthetic, _radii("real", real, k, real_radii), None)
    return counts.in_real.double().mean() / k


def precision(real: Tensor, synthetic: Tensor, k: int = 5, *, real_radii: Tensor | None = None) -> Tensor:
    """Share of synthetic rows inside at least one real ball; see ``prdc``."""
    real, synthetic = _prepare(real, synthetic)
    counts = _count(real, synthetic, _radii("real", real, k, real_radii), None)
    return counts.in_real.gt(0).double().mean()


def recall(real: Tensor, synthetic: Tensor, k: int = 5, *, synthetic_radii: Tensor | None = None) -> Tensor:
    """Share of real rows inside at least one synthetic ball, m > k; see ``prdc``."""
    real, synthetic = _prepare(real, synthetic)
    counts = _count(real, synthetic, None, _radii("synthetic", synthetic, k, synthetic_radii))
    return counts.recalled.double().mean()
