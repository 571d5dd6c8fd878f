"""Coverage, density, precision and recall by nearest neighbours (see ``fastdd_kernels.prdc``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

import fastdd_kernels
from fastdd_kernels import knn_radii

from .rows import RowMetric, joined


class NeighbourMetric(RowMetric):
    """What real and synthetic features say of each other.

    Args:
        k: neighbours that set the radius of a ball.
        keep_real: whether ``reset`` keeps the real features and their radii, which cost most and stay the
            same from epoch to epoch.
        kwargs: as for ``torchmetrics.Metric``.
    """

    higher_is_better: bool | None = True
    plot_lower_bound = 0.0
    real: list[Tensor]
    synthetic: list[Tensor]

    def __init__(self, k: int = 5, *, keep_real: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k is {k!r}, expected a number of neighbours from 1 on")
        self.k, self.keep_real = k, keep_real
        self._radii: tuple[int, Tensor] | None = None
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("synthetic", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add features.

        Args:
            features: [n, D], of a floating dtype.
            real: whether they are of real images.
        """
        rows = self.real if real else self.synthetic
        name = "real features" if real else "synthetic features"
        rows.append(self.checked(features, name, [*_list(self.real), *_list(self.synthetic)]))
        self._radii = None if real else self._radii

    def reset(self) -> None:
        """Forget all features but, with ``keep_real``, the real ones."""
        kept = list(_list(self.real)), self._radii
        super().reset()
        if self.keep_real:
            self.real, self._radii = kept
        else:
            self._radii = None

    def both(self) -> tuple[Tensor, Tensor]:
        """Real and synthetic features."""
        return joined(self.real, "real features"), joined(self.synthetic, "synthetic features")

    def radii(self, real: Tensor) -> Tensor:
        """The radii of the real balls, which are computed once for the same features."""
        if self._radii is None or self._radii[0] != len(real):
            self._radii = len(real), knn_radii(real, self.k)
        return self._radii[1]


def _list(rows: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
    return [rows] if isinstance(rows, Tensor) else rows


class Coverage(NeighbourMetric):
    """Share of the real images that have a synthetic one within the distance of their k-th neighbour."""

    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The coverage of all features that came."""
        real, synthetic = self.both()
        return fastdd_kernels.coverage(real, synthetic, self.k, real_radii=self.radii(real))


class Density(NeighbourMetric):
    """Mean number of real balls that hold a synthetic image, over k; it can exceed 1."""

    def compute(self) -> Tensor:
        """The density of all features that came."""
        real, synthetic = self.both()
        return fastdd_kernels.density(real, synthetic, self.k, real_radii=self.radii(real))


class Precision(NeighbourMetric):
    """Share of the synthetic images inside at least one real ball, in [0, 1]."""

    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The precision of all features that came."""
        real, synthetic = self.both()
        return fastdd_kernels.precision(real, synthetic, self.k, real_radii=self.radii(real))


class Recall(NeighbourMetric):
    """Share of the real images inside at least one synthetic ball, in [0, 1]; more than k are needed."""

    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The recall of all features that came."""
        real, synthetic = self.both()
        return fastdd_kernels.recall(real, synthetic, self.k)


class PRDC(NeighbourMetric):
    """Precision, recall, density and coverage in one sweep over the pairs, by name."""

    higher_is_better = None

    def compute(self) -> dict[str, Tensor]:
        """The four of all features that came."""
        real, synthetic = self.both()
        found = fastdd_kernels.prdc(real, synthetic, self.k, real_radii=self.radii(real))
        return found._asdict()
