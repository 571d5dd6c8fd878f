"""Streaming mean and covariance of each class: the bank of a Gaussian-matching method in one pass.

A batch is cut into one tile of rows for each class present in it. With n_b rows of mean m_b, a
tile joins the n_a rows of mean m_a seen before by Chan's rule

    d = m_b - m_a,   w = n_a n_b / (n_a + n_b)
    m   <- m_a + d n_b / (n_a + n_b)
    M2  <- M2 + sum_k (x_k - m_b)(x_k - m_b)t + w d dt

and the covariance is M2 / n. Rows are centered on their own tile before they are multiplied, and
means are kept in float64, so float32 sums stay exact to about 1e-6 however far the mean is
from zero. The last term rides along as one more row, sqrt(w) d, of the tile's matrix product.

Only the lower half of a covariance is computed and stored, as a staircase: rows in bands of 64, each
band a rectangle that ends with its last row's diagonal. A product is added to it in place by the
matrix library, with no D x D matrix and no index on the way; it holds D(D+64)/2 numbers.

Cost: about n_b D^2 operations for each tile, and one read and write of its class's staircase. Feed
the data in class order: in random order a batch touches a covariance for almost every image.
Memory: num_classes staircases (on a CPU the pages of a class are first taken when it first comes).

With Triton one launch updates all classes of a batch. Labels are read on the host, so labels that
are on the GPU cost a synchronization each batch, and labels on the CPU none.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .dispatch import HAS_TRITON, uses_triton
from .symmetric import unpack_symmetric

if HAS_TRITON:
    from .gpu.accumulate import join_tiles

BAND = 64  # rows of a step of the staircase; the Triton kernel's tile too

# -- reference -------------------------------------------------------------------------------------


def class_gaussian_reference(features: Tensor, labels: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """The definition: two-pass float64 mean [D] and biased covariance [D, D] of class c."""
    rows = features[labels == c].double()
    mean = rows.mean(0)
    return mean, (rows - mean).T @ (rows - mean) / len(rows)


# -- the staircase -----------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _bands(dim: int) -> list[tuple[slice, int, int]]:
    """Rows of each band, how many columns it has, and where it starts."""
    bands, start = [], 0
    for row in range(0, dim, BAND):
        stop = min(row + BAND, dim)
        bands.append((slice(row, stop), stop, start))
        start += (stop - row) * stop
    return bands


def staircase_size(dim: int) -> int:
    """Numbers that the staircase of a [dim, dim] matrix holds."""
    rows, width, start = _bands(dim)[-1]
    return start + (rows.stop - rows.start) * width


def _add_product(stairs: Tensor, rows: Tensor) -> None:
    """Adds rows^T rows, rows [k, D], to the staircase of a matrix."""
    for band, width, start in _bands(rows.shape[1]):
        height = band.stop - band.start
        step = stairs[start : start + height * width].view(height, width)
        step.addmm_(rows[:, band].T, rows[:, :width])


@lru_cache(maxsize=64)
def _triangle(dim: int, device: torch.device) -> Tensor:
    """Which number of the staircase each one of the packed lower triangle is."""
    places = []
    for band, width, start in _bands(dim):
        row, column = torch.tril_indices(band.stop - band.start, width, offset=band.start, device=device)
        places.append(start + row * width + column)
    return torch.cat(places)


# -- the accumulator ---------------------------------------------------------------------------------


class ClassGaussian:
    """Count, mean and covariance of each class, updated batch by batch and mergeable across workers.

    Args:
        num_classes: labels run from 0 to num_classes - 1.
        dim: number of features D.
        device: where the sums live; batches are moved to it.
        dtype: dtype of the covariance sums and of what is returned, float32 or float64.

    Raises:
        ValueError: num_classes or dim is not positive, or dtype is another one.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if num_classes < 1 or dim < 1:
            raise ValueError(f"num_classes and dim must be positive, got {num_classes} and {dim}")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.num_classes, self.dim = num_classes, dim
        self.counts = torch.zeros(num_classes, dtype=torch.int64)  # [classes], on the CPU: read every batch
        self._means = torch.zeros(num_classes, dim, dtype=torch.float64, device=device)
        # covariance times count
        self._sums = torch.zeros(num_classes, staircase_size(dim), dtype=dtype, device=device)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Adds a batch: features [B, D] of any float dtype, labels [B] of any integer dtype, any order.

        Raises:
            ValueError: shapes do not fit, or a label is outside the classes; nothing is added then.
        """
        if features.ndim != 2 or features.shape[1] != self.dim or not features.is_floating_point():
            raise ValueError(
                f"features must be a floating-point [B, {self.dim}], got {tuple(features.shape)} "
                f"{features.dtype}"
            )
        if labels.shape != features.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(
                f"labels must be integers [{features.shape[0]}], got {tuple(labels.shape)} {labels.dtype}"
            )
        labels = labels.cpu()
        in_order = bool((labels[1:] >= labels[:-1]).all())  # then rows need not be moved
        ordered, order = (labels, torch.arange(len(labels))) if in_order else labels.sort(stable=True)
        present, sizes = torch.stack(ordered.long().unique_consecutive(return_counts=True)).tolist()
        for label in (present[0], present[-1]) if present else ():
            self._check_class(label)
        device = self._means.device
        features, order = features.detach().to(device), order.to(device, non_blocking=True)
        if uses_triton(features) and self._sums.dtype == torch.float32 and features.dtype != torch.float64:
            join_tiles(self._sums, self._means, self.counts, features, order, present, sizes)
            self.counts[present] += torch.tensor(sizes, dtype=torch.int64)
            return
        tiles = (features if in_order else features[order]).split(sizes)
        for c, tile in zip(present, tiles, strict=True):
            # About the first row: in float32 the mean itself would lose what rows far from zero differ by.
            tile = tile.to(torch.promote_types(tile.dtype, self._sums.dtype))
            centered = tile - tile[0]
            offset = centered.mean(0)
            self._join(c, len(tile), tile[0].double() + offset, centered.sub_(offset).to(self._sums.dtype))

    @torch.no_grad()
    def merge(self, other: ClassGaussian) -> None:
        """Adds all that ``other`` has seen, as if its batches had come here; ``other`` is left as it is.

        Raises:
            ValueError: other has another number of classes or features.
        """
        if (other.num_classes, other.dim) != (self.num_classes, self.dim):
            raise ValueError(
                f"other must have {self.num_classes} classes of {self.dim} features, "
                f"got {other.num_classes} of {other.dim}"
            )
        for c in other.counts.nonzero().flatten().tolist():
            mean = other._means[c].to(self._means.device)
            self._join(c, other.count(c), mean, self._sums.new_empty(0, self.dim))
            self._sums[c] += other._sums[c].to(self._sums)

    def _join(self, c: int, count: int, mean: Tensor, centered: Tensor) -> None:
        """Chan's rule for class c and ``count`` rows of the given mean, with their centered rows [k, D]."""
        before = self.count(c)
        step = mean - self._means[c]
        row = (before * count / (before + count)) ** 0.5 * step
        rows = torch.cat((centered, row.to(centered.dtype)[None]))
        with torch.autocast(rows.device.type, enabled=False):
            _add_product(self._sums[c], rows)
        self._means[c] += step * (count / (before + count))
        self.counts[c] += count

    def _check_class(self, c: int) -> None:
        if not 0 <= c < self.num_classes:
            raise ValueError(f"label {c} is outside the {self.num_classes} classes 0..{self.num_classes - 1}")

    def count(self, c: int) -> int:
        """Number of rows of class c so far."""
        self._check_class(c)
        return int(self.counts[c])

    def mean(self, c: int) -> Tensor:
        """Mean of class c, [D].

        Raises:
            ValueError: no row of class c has come, or c is no class.
        """
        if not self.count(c):
            raise ValueError(f"class {c} has no rows, so it has no mean")
        return self._means[c].to(self._sums.dtype)

    def covariance(self, c: int, unbiased: bool = False, packed: bool = False) -> Tensor:
        """Covariance of class c, [D, D], or its lower triangle [D(D+1)/2] if ``packed``.

        Args:
            c: the class.
            unbiased: divide by n - 1 instead of n.
            packed: as :func:`fastdd_kernels.symmetric.pack_symmetric` lays it out; half the size.

        Raises:
            ValueError: class c has no row (or only one, if unbiased), or c is no class.
        """
        count = self.count(c)
        if count <= int(unbiased):
            needed = "two rows for an unbiased covariance" if unbiased else "one row for a covariance"
            raise ValueError(f"class {c} has {count} rows and needs at least {needed}")
        half = self._sums[c].index_select(0, _triangle(self.dim, self._sums.device)) / (count - int(unbiased))
        return half if packed else unpack_symmetric(half)

    def state_dict(self) -> dict[str, Tensor]:
        """All state as tensors (not copies): ``counts``, ``means``, ``sums``."""
        return {"counts": self.counts, "means": self._means, "sums": self._sums}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces all state by a copy of ``state``, from :meth:`state_dict` of an equal-sized object.

        Raises:
            ValueError: an entry is missing, unknown or of another shape; nothing is replaced then.
        """
        own = self.state_dict()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        expected = {name: tuple(value.shape) for name, value in own.items()}
        if shapes != expected:
            raise ValueError(f"state must have the shapes {expected}, got {shapes}")
        for name, value in own.items():
            value.copy_(state[name])
