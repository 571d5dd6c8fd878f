"""Vendi score and cosine of a set's own features, as means of the classes or over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fastdd_kernels

from .rows import RowMetric, joined


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
