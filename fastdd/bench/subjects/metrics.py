"""Measuring a set: all metrics of ``fastdd metrics``, the whole set and class by class.

The peers are the packages that papers use, called for the whole set and for each class. They hold matrices of
all distances, 10 GB of float32 at 50,000 real images, so at that size there is ours alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...evaluate import measure
from ...evaluate.scores import SetScores
from ..peers import mean_cosine, prdc_all, vendi_dual
from ..work import Scale, Side, Tensors, Work

K, DIM = 5, 512


class Features(NamedTuple):
    """Features [n, D] and labels [n] of a real set and of a distilled one, class after class."""

    real: Tensor
    truth: Tensor
    synthetic: Tensor
    labels: Tensor


def features(scale: Scale, real: int, synthetic: int, classes: int) -> Features:
    """Random features whose classes lie apart as those of a teacher do."""
    centers = 0.5 * scale.randn(classes, DIM)
    sets = []
    for rows, seed in ((real, 1), (synthetic, 2)):
        labels = torch.arange(classes, device=scale.device).repeat_interleave(-(-rows // classes))[:rows]
        sets += [scale.randn(rows, DIM, seed=seed) + centers[labels], labels]
    return Features(*sets)


def ours(sets: Features) -> Tensors:
    """Coverage, Vendi score and cosine of the set, and their means over its classes."""
    return values(measure(*sets, k=K))


def values(found: SetScores) -> Tensors:
    """The figures that all sides give, a tensor each, so that each has its own error."""
    names = ("coverage", "vendi", "cosine")
    each = [*(getattr(found.whole, name) for name in names), *(found.mean(name) for name in names)]
    return [torch.tensor(value, dtype=torch.float64) for value in each]


def exact(sets: Features) -> Tensors:
    """The same in float64."""
    return values(measure(sets.real.double(), sets.truth, sets.synthetic.double(), sets.labels, k=K))


def packages(sets: Features) -> Tensors:
    """The same by the packages prdc and vendi-score, and all cosines."""
    real, truth, synthetic, labels = (x.cpu().numpy() for x in sets)

    def scores(x: np.ndarray, y: np.ndarray) -> list[float]:
        return [prdc_all(x, y, K)[3], vendi_dual(y, 1), mean_cosine(y)]

    own = [scores(real[truth == c], synthetic[labels == c]) for c in range(int(truth.max()) + 1)]
    return [
        torch.tensor(value, dtype=torch.float64) for value in (*scores(real, synthetic), *np.mean(own, 0))
    ]


def metrics_work(scale: Scale, name: str, real: int, synthetic: int, *, peers: bool) -> Work[Features]:
    classes = 10
    sides: dict[str, Side[Features]] = {"ours": Side(lambda sets: lambda: ours(sets))}
    if peers:
        sides["packages"] = Side(lambda sets: lambda: packages(sets), needs=("prdc", "vendi_score"))
    return Work(
        name,
        f"all metrics of {real} real x {synthetic} distilled x {DIM}, {classes} classes, k = {K}",
        lambda: features(scale, real, synthetic, classes),
        exact,
        tolerance=1e-3,
        sides=sides,
    )


def works(scale: Scale) -> list[Work]:
    """A size that the packages can do, and the whole of CIFAR-10."""
    small = metrics_work(scale, "metrics", scale.size(10_000, 600), scale.size(1000, 100), peers=True)
    return [small] if scale.quick else [small, metrics_work(scale, "metrics_50k", 50_000, 1000, peers=False)]
