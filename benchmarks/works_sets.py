"""Works on whole sets: neighbours, Vendi score, class statistics. No gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from baselines import (
    index_add_outer_products,
    plain_cosine,
    prdc_all,
    prdc_coverage,
    vendi_dual,
    vendi_kernel,
)
from torch import Tensor
from works import DEVICE, Call, Provider, Work, randn, size

from fastdd_kernels import ClassGaussian, coverage, prdc, vendi_score

# -- neighbours ------------------------------------------------------------------------------------

K = 5
MEMBERS = 10  # rows of a cluster
TIES = 1e-7  # a share of rows may not be off by one row


class Sets(NamedTuple):
    real: Tensor  # [n, D], cluster after cluster
    synthetic: Tensor  # [m, D], of the first clusters, a little wider


def clusters(n: int, m: int, dim: int = 512) -> Callable[[], Sets]:
    """Clusters twice as far apart as they are wide: all neighbours that count are in the same one."""

    def make() -> Sets:
        centers = 2 * randn(n // MEMBERS, dim, seed=1).repeat_interleave(MEMBERS, 0)
        return Sets(centers + randn(n, dim, seed=2), centers[:m] + 1.1 * randn(m, dim, seed=3))

    return make


def prdc_truth(inputs: Sets) -> list[Tensor]:
    """Precision, recall, density and coverage from the clusters alone, at any size."""
    n, m = len(inputs.real), len(inputs.synthetic)
    real, synthetic = (x.double().unflatten(0, (-1, MEMBERS)) for x in inputs)
    real_radii, synthetic_radii = (torch.cdist(x, x).kthvalue(K + 1, dim=2).values for x in (real, synthetic))
    distances = torch.cdist(real[: len(synthetic)], synthetic)
    in_real = distances < real_radii[: len(synthetic), :, None]
    in_synthetic = distances < synthetic_radii[:, None]
    counts = in_real.any(1), in_synthetic.any(2), in_real, in_real.any(2)
    per = m, n, m * K, n
    return [torch.stack([count.sum().double() / total for count, total in zip(counts, per, strict=True)])]


def coverage_truth(inputs: Sets) -> list[Tensor]:
    return [prdc_truth(inputs)[0][3]]


def from_numpy(
    function: Callable[[np.ndarray, np.ndarray, int], float | list[float]],
) -> Callable[[Sets], Call]:
    def build(inputs: Sets) -> Call:
        real, synthetic = (x.cpu().numpy() for x in inputs)
        return lambda: [torch.tensor(function(real, synthetic, K), dtype=torch.float64)]

    return build


OURS: Provider[Sets] = Provider(lambda inputs: lambda: [coverage(inputs.real, inputs.synthetic, K)])
OURS_ALL: Provider[Sets] = Provider(
    lambda inputs: lambda: [torch.stack(prdc(inputs.real, inputs.synthetic, K))]
)
PACKAGE = Provider(from_numpy(prdc_coverage), ("prdc", "sklearn"))
PACKAGE_ALL = Provider(from_numpy(prdc_all), ("prdc", "sklearn"))

# -- Vendi score -----------------------------------------------------------------------------------


def vendi_truth(q: int) -> Callable[[Tensor], list[Tensor]]:
    def truth(x: Tensor) -> list[Tensor]:
        kernel = plain_cosine(x.double(), x.double()) / len(x)
        if q == 2:
            return [1 / kernel.square().sum()]
        eigenvalues = torch.linalg.eigvalsh(kernel)
        eigenvalues = eigenvalues[eigenvalues > 1e-12]
        return [(-(eigenvalues * eigenvalues.log()).sum()).exp()]

    return truth


def vendi_package(function: Callable[[np.ndarray, int], float], q: int) -> Provider:
    def build(x: Tensor) -> Call:
        rows = x.cpu().numpy()
        return lambda: [torch.tensor(function(rows, q), dtype=torch.float64)]

    return Provider(build, ("vendi_score",))


def vendi(q: int) -> Work:
    return Work(
        f"vendi_q{q}",
        lambda: randn(size(1000, 100), 512) + 0.5,
        vendi_truth(q),
        tolerance=1e-4,
        providers={
            "ours": Provider(lambda x: lambda: [vendi_score(x, q=q)]),
            "package": vendi_package(vendi_kernel, q),
            "package_dual": vendi_package(vendi_dual, q),
        },
    )


# -- class statistics ------------------------------------------------------------------------------

CLASSES, DIM, BATCH = size(1000, 20), size(512, 64), 100


class Rows(NamedTuple):
    features: Tensor  # in class order
    labels: Tensor


def rows(per_class: int) -> Callable[[], Rows]:
    def make() -> Rows:
        labels = torch.arange(CLASSES, device=DEVICE).repeat_interleave(per_class)
        return Rows(0.5 * randn(CLASSES, DIM)[labels] + randn(len(labels), DIM, seed=1), labels)

    return make


def of_some_classes(statistics: Callable[[int], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Means and covariances of ten classes from the first to the last, stacked."""
    some = torch.linspace(0, CLASSES - 1, 10).long().tolist()
    return [torch.stack(part) for part in zip(*map(statistics, some), strict=True)]


def accumulate_truth(inputs: Rows) -> list[Tensor]:
    def statistics(c: int) -> tuple[Tensor, Tensor]:
        own = inputs.features[inputs.labels == c].double()
        mean = own.mean(0)
        return mean, (own - mean).mT @ (own - mean) / len(own)

    return of_some_classes(statistics)


def accumulate_ours(inputs: Rows) -> Call:
    def call() -> list[Tensor]:
        state = ClassGaussian(CLASSES, DIM, device=DEVICE)
        for x, y in zip(inputs.features.split(BATCH), inputs.labels.split(BATCH), strict=True):
            state.update(x, y)
        return of_some_classes(lambda c: (state.mean(c), state.covariance(c)))

    return call


def accumulate_index_add(inputs: Rows) -> Call:
    return lambda: of_some_classes(index_add_outer_products(*inputs, CLASSES, BATCH))


def accumulate(per_class: int, target: tuple[str, float] | None = None) -> Work:
    return Work(
        f"accumulate_{per_class}_a_class",
        rows(per_class),
        accumulate_truth,
        tolerance=1e-5,
        target=target,
        providers={"ours": Provider(accumulate_ours), "index_add": Provider(accumulate_index_add)},
    )


REAL, SYNTHETIC = size(10_000, 500), size(1000, 100)
WORKS = [
    Work(
        "coverage",
        clusters(REAL, SYNTHETIC),
        coverage_truth,
        tolerance=TIES,
        providers={"ours": OURS, "prdc_coverage": PACKAGE},
        target=("prdc_coverage", 5),
        memory_share=0.05,
    ),
    Work(
        "coverage_50k",
        clusters(size(50_000, 2500), SYNTHETIC),
        coverage_truth,
        tolerance=TIES,
        providers={"ours": OURS},
        memory_mb=1000,
    ),
    Work(
        "prdc",
        clusters(REAL, SYNTHETIC),
        prdc_truth,
        tolerance=TIES,
        providers={"ours": OURS_ALL, "prdc": PACKAGE_ALL},
    ),
    vendi(1),
    vendi(2),
    accumulate(4),  # as little data as there can be: the first touch of each covariance is most of it
    accumulate(50, target=("index_add", 20)),
]
