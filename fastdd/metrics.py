"""Coverage and diversity as classes of ``torchmetrics.Metric``: for trainers, and for features in batches.

    covered = fastdd.metrics.Coverage(k=5)
    covered.update(real_features, real=True)
    covered.update(features, real=False)
    covered.compute()

They hold features until they are computed, gather them from all processes, and fit into a
``MetricCollection`` and a Lightning module. The functions are ``fastdd_kernels.coverage`` and its like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import fastdd_kernels
from fastdd_kernels import knn_radii

from .errors import InputError

try:
    from torchmetrics import Metric
except ImportError as error:
    raise InputError(
        "fastdd.metrics needs torchmetrics, which is not installed; pip install 'fastdd[metrics]' (functions "
        "such as fastdd_kernels.coverage do not need it)"
    ) from error


__all__ = ["PRDC", "Coverage", "Density", "IntraClassCosine", "Precision", "Recall", "VendiScore"]


class RowMetric(Metric):
    """A metric of features [n, D], which it holds until it is computed."""

    is_differentiable = False
    full_state_update = False

    def checked(self, features: object, name: str, known: Sequence[Tensor]) -> Tensor:
        """Features as they are kept: detached.

        Args:
            features: [n, D], of a floating dtype.
            name: what they are called in messages.
            known: rows that came before.

        Raises:
            ValueError: they are no matrix, or have another width than those before.
            TypeError: they are no tensor, or not floating point.
        """
        if not isinstance(features, Tensor):
            raise TypeError(f"{name} are a {type(features).__name__}, expected a tensor [n, D]")
        if features.ndim != 2:
            raise ValueError(f"{name} have shape {list(features.shape)}, expected [n, D], one row an image")
        if not features.is_floating_point():
            raise TypeError(f"{name} are {features.dtype}, expected a floating dtype; call .float() first")
        if len(known) and known[0].shape[1] != features.shape[1]:
            raise ValueError(
                f"{name} have {features.shape[1]} columns, but those before have {known[0].shape[1]}; call "
                "reset() before features of another network"
            )
        return features.detach()

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw a value, or several over time; see ``torchmetrics.Metric.plot``. It needs matplotlib."""
        return self._plot(val, ax)


def joined(rows: Sequence[Tensor] | Tensor, what: str) -> Tensor:
    """All rows as one matrix; processes that gathered them have joined them already.

    Raises:
        ValueError: there are none.
    """
    if isinstance(rows, Tensor):
        return rows
    if not rows:
        raise ValueError(f"there are no {what} yet; call update() with some before compute()")
    return torch.cat(list(rows))


# -- each class by itself: Vendi score and cosine, as means of the classes or over all of them


class ClassMeanMetric(RowMetric):
    """The mean over the classes of a number of each class's features.

    Args:
        kwargs: as for ``torchmetrics.Metric``.
    """

    features: list[Tensor]
    labels: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("features", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, labels: Tensor | None = None) -> None:
        """Add features.

        Args:
            features: [n, D], of a floating dtype.
            labels: their classes, int64 [n]; None: all are one class.
        """
        known = [self.features] if isinstance(self.features, Tensor) else self.features
        rows = self.checked(features, "features", known)
        if labels is None:
            labels = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        if labels.shape != (len(rows),):
            raise ValueError(f"labels have shape {list(labels.shape)}, expected [{len(rows)}], one a row")
        self.features.append(rows)
        self.labels.append(labels.detach())

    def mean_of(self, number: Callable[[Tensor], Tensor], least: int) -> Tensor:
        """The mean over the classes; NaN where no class has as many rows as the number needs."""
        rows, labels = joined(self.features, "features"), joined(self.labels, "labels")
        each = [rows[labels == c] for c in labels.unique()]
        found = [number(of_class).float() for of_class in each if len(of_class) >= least]
        return torch.stack(found).mean() if found else rows.new_full((), torch.nan, dtype=torch.float32)


class VendiScore(ClassMeanMetric):
    """Effective number of different images in a class (Friedman and Dieng, 2023), cosine kernel.

    Args:
        q: order of the score, from 0 on.
        kwargs: as for ``torchmetrics.Metric``.
    """

    higher_is_better = True
    plot_lower_bound = 1.0

    def __init__(self, q: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.q = q

    def compute(self) -> Tensor:
        """The mean of the classes' scores."""
        return self.mean_of(lambda rows: fastdd_kernels.vendi_score(rows, self.q), least=1)


class IntraClassCosine(ClassMeanMetric):
    """Mean cosine of the pairs of different images of a class; classes of one image are left out."""

    higher_is_better = False
    plot_lower_bound, plot_upper_bound = -1.0, 1.0

    def compute(self) -> Tensor:
        """The mean of the classes' cosines; NaN where no class has two images."""
        return self.mean_of(fastdd_kernels.intra_class_cosine, least=2)


# -- neighbours: coverage, density, precision and recall (see ``fastdd_kernels.prdc``)


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
