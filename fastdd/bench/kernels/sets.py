"""Works on whole sets: neighbours, Vendi score, class statistics. No gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastdd_kernels import ClassGaussian, coverage, prdc, vendi_score

from ..peers import index_add_outer_products, plain_cosine, prdc_all, prdc_coverage, vendi_dual, vendi_kernel
from ..work import Call, Goal, Least, Scale, Side, Tensors, Work

# -- neighbours ------------------------------------------------------------------------------------

K = 5
MEMBERS = 10  # rows of a cluster
TIES = 1e-7  # a share of rows may not be off by one row


class Sets(NamedTuple):
    real: Tensor  # [n, D], cluster after cluster
    synthetic: Tensor  # [m, D], of the first clusters, a little wider


def clusters(scale: Scale, n: int, m: int) -> Sets:
    """Clusters twice as far apart as they are wide: all neighbours that count are in the same one."""
    centers = 2 * scale.randn(n // MEMBERS, 512, seed=1).repeat_interleave(MEMBERS, 0)
    real = centers + scale.randn(n, 512, seed=2)
    return Sets(real, centers[:m] + 1.1 * scale.randn(m, 512, seed=3))


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


def neighbours_least(inputs: Sets) -> Least:
    """Half of all products of real rows with each other, and those with synthetic rows."""
    (n, dim), m = inputs.real.shape, len(inputs.synthetic)
    moved = inputs.real.nbytes + inputs.synthetic.nbytes
    return Least(bytes=moved, operations=n * n * dim + 2 * n * m * dim)


def coverage_work(
    scale: Scale, name: str, n: int, m: int, *, peers: bool, goals: tuple[Goal, ...]
) -> Work[Sets]:
    """Coverage alone."""
    sides = {"ours": Side[Sets](lambda inputs: lambda: [coverage(inputs.real, inputs.synthetic, K)])}
    if peers:
        sides["prdc_coverage"] = Side(from_numpy(prdc_coverage), needs=("prdc", "sklearn"))
    return Work(
        name,
        f"coverage of {n} real rows of 512 by {m}, k = {K}",
        lambda: clusters(scale, n, m),
        coverage_truth,
        tolerance=TIES,
        goals=goals,
        least=neighbours_least,
        sides=sides,
    )


def prdc_work(scale: Scale, n: int, m: int) -> Work[Sets]:
    return Work(
        "prdc",
        f"precision, recall, density and coverage of {n} real rows of 512 and {m}, k = {K}",
        lambda: clusters(scale, n, m),
        prdc_truth,
        tolerance=TIES,
        least=neighbours_least,
        sides={
            "ours": Side(lambda inputs: lambda: [torch.stack(prdc(inputs.real, inputs.synthetic, K))]),
            "prdc": Side(from_numpy(prdc_all), needs=("prdc", "sklearn")),
        },
    )


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


def vendi_package(function: Callable[[np.ndarray, int], float], q: int) -> Side[Tensor]:
    def build(x: Tensor) -> Call:
        rows = x.cpu().numpy()
        return lambda: [torch.tensor(function(rows, q), dtype=torch.float64)]

    return Side(build, needs=("vendi_score",))


def vendi_work(scale: Scale, q: int) -> Work[Tensor]:
    n, dim = scale.size(1000, 100), 512
    return Work(
        f"vendi_q{q}",
        f"Vendi score of order {q} of {n} rows of {dim}",
        lambda: scale.randn(n, dim) + 0.5,
        vendi_truth(q),
        tolerance=1e-4,
        goals=(Goal("faster", 1.0, "package_dual"),) if q == 1 else (),
        least=lambda x: Least(bytes=x.nbytes, operations=n * dim * min(n, dim)),
        sides={
            "ours": Side(lambda x: lambda: [vendi_score(x, q=q)]),
            "package": vendi_package(vendi_kernel, q),
            "package_dual": vendi_package(vendi_dual, q),
        },
    )


# -- class statistics ------------------------------------------------------------------------------

BATCH = 100


class Rows(NamedTuple):
    features: Tensor  # in class order
    labels: Tensor


def rows(scale: Scale, classes: int, per_class: int, dim: int) -> Rows:
    """Random rows of some classes."""
    labels = torch.arange(classes, device=scale.device).repeat_interleave(per_class)
    noise = scale.randn(len(labels), dim, seed=1)
    return Rows(0.5 * scale.randn(classes, dim)[labels] + noise, labels)


def of_some_classes(classes: int, statistics: Callable[[int], tuple[Tensor, Tensor]]) -> Tensors:
    """Means and covariances of ten classes from the first to the last, stacked."""
    some = torch.linspace(0, classes - 1, 10).long().tolist()
    return [torch.stack(part) for part in zip(*map(statistics, some), strict=True)]


def accumulate_truth(inputs: Rows, classes: int) -> Tensors:
    def statistics(c: int) -> tuple[Tensor, Tensor]:
        own = inputs.features[inputs.labels == c].double()
        mean = own.mean(0)
        return mean, (own - mean).mT @ (own - mean) / len(own)

    return of_some_classes(classes, statistics)


def accumulate_ours(inputs: Rows, classes: int) -> Call:
    features, labels = inputs

    def call() -> Tensors:
        state = ClassGaussian(classes, features.shape[1], device=features.device)
        for x, y in zip(features.split(BATCH), labels.split(BATCH), strict=True):
            state.update(x, y)
        return of_some_classes(classes, lambda c: (state.mean(c), state.covariance(c)))

    return call


def accumulate_index_add(inputs: Rows, classes: int) -> Call:
    return lambda: of_some_classes(classes, index_add_outer_products(*inputs, classes, batch=BATCH))


def accumulate_work(scale: Scale, per_class: int, *, goals: tuple[Goal, ...] = ()) -> Work[Rows]:
    classes, dim = scale.size(1000, 20), scale.size(512, 64)
    return Work(
        f"accumulate_{per_class}_a_class",
        f"means and covariances of {classes} classes x {per_class} rows of {dim}, in batches of {BATCH}",
        lambda: rows(scale, classes, per_class, dim),
        lambda inputs: accumulate_truth(inputs, classes),
        tolerance=1e-5,
        goals=goals,
        # Half of each covariance is written; half of the products are computed.
        least=lambda inputs: Least(
            bytes=inputs.features.nbytes + 2 * classes * dim**2, operations=len(inputs.labels) * dim**2
        ),
        sides={
            "ours": Side(lambda inputs: accumulate_ours(inputs, classes)),
            "index_add": Side(lambda inputs: accumulate_index_add(inputs, classes)),
        },
    )


def works(scale: Scale) -> list[Work]:
    """The works on whole sets."""
    real, synthetic = scale.size(10_000, 500), scale.size(1000, 100)
    smaller = (Goal("faster", 5, "prdc_coverage"), Goal("memory", 0.05, "prdc_coverage"))
    return [
        coverage_work(scale, "coverage", real, synthetic, peers=True, goals=smaller),
        coverage_work(
            scale,
            "coverage_50k",
            scale.size(50_000, 2500),
            synthetic,
            peers=False,
            goals=(Goal("megabytes", 1000),),
        ),
        prdc_work(scale, real, synthetic),
        vendi_work(scale, 1),
        vendi_work(scale, 2),
        # As little data as there can be: the first touch of each covariance is most of it.
        accumulate_work(scale, 4),
        accumulate_work(scale, 50, goals=(Goal("faster", 20, "index_add"),)),
    ]
