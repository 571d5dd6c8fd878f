"""The k-th nearest row, exactly: rounded squared distances with a bound on their error, then float64.

    r_i = distance of x_i to its k-th nearest other row of x, found by index, not by value

Squared distances come in tiles from a centered matrix product. The k + 2 rows that may be nearest are kept,
and those alone computed again, by differences in float64: equal distances are equal, never "smaller" by
rounding.

What is computed part by part is written into one tensor: on a CPU, results of their own would lie between the
large temporary tensors of the parts, whose memory the C library then reuses for nothing else.

Cost: n^2 D operations for the radii of n rows, since the pairs of a set are formed once for both; 2 n m D for
the neighbours in another set. Memory: a few tiles and n (k + 2) candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .cosine import to_float
from .distance import distance_factor
from .product import matmul

# On a CPU a tile and what is gathered fit the cache; a GPU must be filled, and launches are what costs there.
_TILE, _TILE_ON_GPU = 1 << 10, 1 << 13  # rows and columns of a tile of squared distances
_GATHER, _GATHER_ON_GPU = 1 << 18, 1 << 24  # floats gathered at a time to compute single pairs
_KEPT = 1 << 20  # candidates held at a time where many are needed a row: of equal rows all others are
_SPARE = 2  # neighbours kept beyond the k-th, so that rounding rarely leaves open which one is the k-th

# -- reference -------------------------------------------------------------------------------------


def squares_reference(x: Tensor, y: Tensor) -> Tensor:
    return (x.double()[:, None] - y.double()[None]).square().sum(-1)


def knn_radii_reference(x: Tensor, k: int) -> Tensor:
    """The definition, every difference written out."""
    squares = squares_reference(x, x).fill_diagonal_(torch.inf)
    return squares.kthvalue(k, dim=1).values.sqrt()


# -- squared distances, rounded with a bound or exact ------------------------------------------------


class Rows(NamedTuple):
    """Features, the center they are shifted by where they are multiplied, and the squared norms then, [n]."""

    features: Tensor
    center: Tensor
    square: Tensor

    def part(self, index: slice | Tensor) -> Rows:
        return Rows(self.features[index], self.center, self.square[index])

    def centered(self) -> Tensor:
        return self.features - self.center


def centered_rows(features: Tensor, center: Tensor) -> Rows:
    # Part by part: a tile is centered when its turn comes, and no second copy of the features is kept.
    square = features.new_empty(len(features))
    for part in slices(features):
        square[part] = _square_norms(features[part] - center)
    return Rows(features, center, square)


def tile_of_squares(x: Rows, y: Rows) -> tuple[Tensor, Tensor]:
    """Squared distances [n, m] and a bound on their error, over three times the worst observed."""
    scale = x.square[:, None] + y.square[None]
    squares = torch.sub(scale, matmul(x.centered(), y.centered().mT), alpha=2)
    return squares, scale.mul_(16 * torch.finfo(scale.dtype).eps)


def exact_squares(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """||x_i - y_j||^2 of single pairs [p], by differences in float64."""
    step = _rows_gathered(x)
    squares = torch.empty(len(i), dtype=torch.float64, device=x.device)
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        squares[part] = _square_norms(x[i[part]].double() - y[j[part]])
    return squares


def _square_norms(difference: Tensor) -> Tensor:
    """||d||^2 over the last dimension, in place of d."""
    return difference.mul_(difference).sum(-1)


def _rows_of_a_tile(x: Tensor) -> int:
    return _TILE_ON_GPU if x.is_cuda else _TILE


def _rows_gathered(x: Tensor, keep: int = 1) -> int:
    """How many rows of x [n, D] have ``keep`` pairs each gathered at a time."""
    return max(1, (_GATHER_ON_GPU if x.is_cuda else _GATHER) // (keep * max(x.shape[1], 1)))


def slices(x: Tensor, first: int = 0) -> Iterator[slice]:
    """The tiles of x along its first axis, from row ``first`` on."""
    step = _rows_of_a_tile(x)
    return (slice(start, start + step) for start in range(first, len(x), step))


# -- search ----------------------------------------------------------------------------------------


class _Nearest(NamedTuple):
    """The nearest rows of each row so far: lower bounds of their squared distances, and their indices."""

    bounds: Tensor  # [n, keep], ascending
    neighbours: Tensor  # [n, keep], their row numbers

    @staticmethod
    def none(x: Tensor, n: int, keep: int) -> _Nearest:
        return _Nearest(
            x.new_full((n, keep), torch.inf), torch.zeros(n, keep, dtype=torch.int64, device=x.device)
        )

    def merge(self, rows: slice, tile: Tensor, start: int) -> None:
        """Takes in the lower bounds [rows, columns] of the pairs with rows start, start + 1, ..."""
        keep = self.bounds.shape[1]
        bounds, index = tile.topk(min(keep, tile.shape[1]), largest=False, sorted=False)
        bounds, order = torch.cat((self.bounds[rows], bounds), 1).topk(keep, largest=False)
        self.neighbours[rows] = torch.cat((self.neighbours[rows], index + start), 1).gather(1, order)
        self.bounds[rows] = bounds


def _lower_bounds(x: Rows, y: Rows) -> Tensor:
    """Squared distances [n, m] less their error."""
    squares, error = tile_of_squares(x, y)
    return squares.sub_(error)


def _search(x: Rows, y: Rows, keep: int, own: Tensor | None) -> _Nearest:
    """Candidates among the rows of y for each row of x, but the row ``own`` [n] of each."""
    nearest = _Nearest.none(x.square, len(x.square), keep)
    for theirs in slices(y.square):
        for mine in slices(x.square):
            tile = _lower_bounds(x.part(mine), y.part(theirs))
            if own is not None:
                column = torch.arange(theirs.start, theirs.start + tile.shape[1], device=tile.device)
                tile.masked_fill_(own[mine, None] == column, torch.inf)
            nearest.merge(mine, tile, theirs.start)
    return nearest


def _search_within(x: Rows, keep: int) -> _Nearest:
    """Candidates among the other rows of x; each pair is formed once and serves both of its rows."""
    n = len(x.square)
    nearest = _Nearest.none(x.square, n, keep)
    for mine in slices(x.square):
        for other in slices(x.square, mine.start):
            tile = _lower_bounds(x.part(mine), x.part(other))
            if mine == other:
                nearest.merge(mine, tile.fill_diagonal_(torch.inf), mine.start)
            else:
                nearest.merge(mine, tile, other.start)
                nearest.merge(other, tile.T.contiguous(), mine.start)
    return nearest


def _kth(x: Tensor, y: Tensor, nearest: _Nearest, k: int, limit: int) -> tuple[Tensor, Tensor]:
    """Exact k-th smallest squares of the candidates, and whether those were enough to know.

    All other rows are at least as far as the last of the lower bounds, so the k-th candidate is the k-th
    neighbour if it is no farther. ``limit`` is the number of rows there are.
    """
    keep = nearest.neighbours.shape[1]
    step = _rows_gathered(x, keep)
    exact = torch.empty(len(x), keep, dtype=torch.float64, device=x.device)
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        exact[part] = _square_norms(y[nearest.neighbours[part]].double().sub_(x[part].unsqueeze(1)))
    kth = exact.kthvalue(k, dim=1).values
    return kth, (kth <= nearest.bounds[:, -1]) | (keep >= limit)


def kth_squares(x: Tensor, y: Tensor | None, k: int) -> Tensor:
    """Exact squared distance [n] float64 of each row of x to its k-th nearest row of y, or other row of x."""
    targets = x if y is None else y
    limit = len(targets) - (y is None)
    keep = min(k + _SPARE, limit)
    center = targets.mean(0)
    rows, others = centered_rows(x, center), centered_rows(targets, center)
    nearest = _search_within(rows, keep) if y is None else _search(rows, others, keep, None)
    squares, known = _kth(x, targets, nearest, k, limit=limit)
    unknown = (~known).nonzero().flatten()
    while len(unknown):
        # Many equal or nearly equal distances: look at more of them, for some rows at a time.
        keep = min(4 * keep, limit)
        left = []
        for part in unknown.split(max(1, _KEPT // keep)):
            nearest = _search(rows.part(part), others, keep, part if y is None else None)
            squares[part], known = _kth(x[part], targets, nearest, k, limit=limit)
            left.append(part[~known])
        unknown = torch.cat(left)
    return squares


# -- checks and public function ----------------------------------------------------------------------


def check_features(name: str, x: Tensor) -> None:
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"{name} must be [n, D] with n > 0, got {tuple(x.shape)}")
    if not torch.stack(x.aminmax()).isfinite().all():  # a NaN is both; takes no mask of the size of x
        raise ValueError(f"{name} {tuple(x.shape)} holds NaN or infinity; distances need finite features")


def check_neighbours(name: str, x: Tensor, k: int) -> None:
    """Raise a ValueError unless each row of x has a k-th nearest other row."""
    if not 1 <= k < x.shape[0]:
        raise ValueError(
            f"a {k}-th nearest other row needs 1 <= k < n, got k = {k} and n = {x.shape[0]} rows of {name}"
        )


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
    check_features("x", x)
    check_neighbours("x", x, k)
    (x,) = to_float(x.detach())
    factor = distance_factor(x, x)
    return kth_squares(x if factor == 1 else x * factor, None, k).sqrt() / factor.double()
