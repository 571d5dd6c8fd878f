"""Works on feature rows, forward and backward: DiRe and Gaussian matching."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastdd_kernels import RealEmbeddings, covariance_regularizer, dire_loss, gaussian_alignment

from ..peers import plain_dire, plain_gaussian, released_diversity_loss
from ..work import Call, Goal, Least, Scale, Side, Work, compiled, with_gradient

# -- DiRe ------------------------------------------------------------------------------------------


class Embeddings(NamedTuple):
    synthetic: Tensor  # [G, n, D], a leaf
    real: Tensor  # [G, m, D]


def embeddings(scale: Scale, classes: int, ipc: int, real: int) -> Embeddings:
    """Random embeddings of 512 numbers, nonnegative, as after the last ReLU and pooling."""
    rows = scale.randn(classes, real, 512, seed=1).relu()
    return Embeddings(scale.randn(classes, ipc, 512).relu().requires_grad_(), rows)


def dire_truth(inputs: Embeddings) -> list[Tensor]:
    x = inputs.synthetic.detach().double().requires_grad_()
    return with_gradient([plain_dire(x, inputs.real.double())], x)


def dire_call(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Embeddings], Call]:
    return lambda inputs: lambda: with_gradient([loss(inputs.synthetic, inputs.real)], inputs.synthetic)


def dire_prepared(inputs: Embeddings) -> Call:
    bank = RealEmbeddings.prepare(inputs.real)
    return lambda: with_gradient([dire_loss(inputs.synthetic, bank, reading="code")], inputs.synthetic)


def dire_work(scale: Scale) -> Work[Embeddings]:
    classes, ipc, real = scale.size(50, 5), 10, scale.size(500, 60)
    return Work(
        "dire",
        f"DiRe's loss of {classes} classes, {ipc} synthetic and {real} real rows of 512, both ways",
        lambda: embeddings(scale, classes, ipc, real),
        dire_truth,
        tolerance=1e-5,
        goals=(Goal("faster", 10, "torchmetrics_loop"),),
        # Two products of the real rows with the synthetic ones, each once forward and once backward.
        least=lambda inputs: Least(
            bytes=inputs.real.nbytes + 2 * inputs.synthetic.nbytes, operations=8 * ipc * inputs.real.numel()
        ),
        sides={
            "ours": Side(dire_prepared),
            "ours_prepared_each_call": Side(dire_call(lambda x, rows: dire_loss(x, rows, reading="code"))),
            "torchmetrics_loop": Side(
                dire_call(lambda x, rows: released_diversity_loss(x.flatten(0, 1), list(rows), x.shape[1])),
                needs=("torchmetrics",),
            ),
            "plain": Side(dire_call(plain_dire)),
            "plain_compiled": Side(dire_call(compiled(plain_dire)), compiled=True),
        },
    )


# -- Gaussian matching -----------------------------------------------------------------------------


class Classes(NamedTuple):
    features: Tensor  # [G, n, D], a leaf
    mean: Tensor  # [G, D]
    covariance: Tensor  # [G, D, D]


def classes(scale: Scale, groups: int, dim: int) -> Classes:
    """Random rows of ten images a class, and mean and covariance of twice as many real rows as columns."""
    mixing = torch.eye(dim, device=scale.device) + 0.05 * scale.randn(dim, dim, seed=2)
    real = scale.randn(groups, 2 * dim, dim, seed=1) @ mixing + 1
    mean = real.mean(1)
    centered = real - mean[:, None]
    features = scale.randn(groups, 10, dim).requires_grad_()
    return Classes(features, mean, centered.mT @ centered / (2 * dim))


def gaussian_gradient(features: Tensor, terms: tuple[Tensor, ...]) -> list[Tensor]:
    return with_gradient(terms, features, [torch.ones_like(term) for term in terms])


def gaussian_truth(inputs: Classes) -> list[Tensor]:
    features = inputs.features.detach().double().requires_grad_()
    return gaussian_gradient(
        features, plain_gaussian(features, inputs.mean.double(), inputs.covariance.double())
    )


def gaussian_ours(square_known: bool) -> Callable[[Classes], Call]:
    def build(inputs: Classes) -> Call:
        square = inputs.covariance.square().sum((1, 2)) if square_known else None
        x, mean, covariance = inputs

        def call() -> list[Tensor]:
            alignment = gaussian_alignment(x, mean, covariance, class_cov_square=square)
            return gaussian_gradient(x, (alignment, covariance_regularizer(x)))

        return call

    return build


def gaussian_plain(function: Callable[..., tuple[Tensor, ...]]) -> Callable[[Classes], Call]:
    return lambda inputs: lambda: gaussian_gradient(inputs.features, function(*inputs))


def gaussian_work(scale: Scale) -> Work[Classes]:
    groups, dim = scale.size(10, 3), scale.size(512, 128)
    return Work(
        "gaussian",
        f"DEDA's Gaussian alignment and regularizer of {groups} classes x 10 rows of {dim}, both ways",
        lambda: classes(scale, groups, dim),
        gaussian_truth,
        tolerance=1e-5,
        goals=(Goal("faster", 5, "plain_dxd"),),
        # The rows times the class covariance, once forward and once backward.
        least=lambda inputs: Least(
            bytes=inputs.covariance.nbytes + 2 * inputs.features.nbytes,
            operations=4 * 10 * inputs.covariance.numel(),
        ),
        sides={
            "ours": Side(gaussian_ours(square_known=True)),
            "ours_norm_each_call": Side(gaussian_ours(square_known=False)),
            "plain_dxd": Side(gaussian_plain(plain_gaussian)),
            "plain_dxd_compiled": Side(gaussian_plain(compiled(plain_gaussian)), compiled=True),
        },
    )


def works(scale: Scale) -> list[Work]:
    """The works on rows of features."""
    return [dire_work(scale), gaussian_work(scale)]
