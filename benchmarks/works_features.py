"""Works on feature rows, forward and backward: DiRe and Gaussian matching."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from baselines import plain_dire, plain_gaussian, released_diversity_loss
from torch import Tensor
from works import DEVICE, Call, Provider, Work, compiled, randn, size, with_gradient

from fastdd_kernels import RealEmbeddings, covariance_regularizer, dire_loss, gaussian_alignment

# -- DiRe ------------------------------------------------------------------------------------------


class Embeddings(NamedTuple):
    synthetic: Tensor  # [G, n, D], a leaf
    real: Tensor  # [G, m, D]


def embeddings() -> Embeddings:
    classes, dim = size(50, 5), 512
    # Nonnegative, as after the last ReLU and pooling.
    real = randn(classes, size(500, 60), dim, seed=1).relu()
    return Embeddings(randn(classes, 10, dim).relu().requires_grad_(), real)


def dire_truth(inputs: Embeddings) -> list[Tensor]:
    x = inputs.synthetic.detach().double().requires_grad_()
    return with_gradient([plain_dire(x, inputs.real.double())], x)


def dire_call(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Embeddings], Call]:
    return lambda inputs: lambda: with_gradient([loss(inputs.synthetic, inputs.real)], inputs.synthetic)


def dire_prepared(inputs: Embeddings) -> Call:
    bank = RealEmbeddings.prepare(inputs.real)
    return lambda: with_gradient([dire_loss(inputs.synthetic, bank, reading="code")], inputs.synthetic)


DIRE = Work(
    "dire",
    embeddings,
    dire_truth,
    tolerance=1e-5,
    target=("torchmetrics_loop", 50),
    providers={
        "ours": Provider(dire_prepared),
        "ours_prepared_each_call": Provider(dire_call(lambda x, real: dire_loss(x, real, reading="code"))),
        "torchmetrics_loop": Provider(
            dire_call(lambda x, real: released_diversity_loss(x.flatten(0, 1), list(real), x.shape[1])),
            needs=("torchmetrics",),
        ),
        "plain": Provider(dire_call(plain_dire)),
        "plain_compiled": Provider(dire_call(compiled(plain_dire)), compiled=True),
    },
)

# -- Gaussian matching -----------------------------------------------------------------------------


class Classes(NamedTuple):
    features: Tensor  # [G, n, D], a leaf
    mean: Tensor  # [G, D]
    covariance: Tensor  # [G, D, D]


def classes() -> Classes:
    groups, dim = size(10, 3), size(512, 128)
    real = (
        randn(groups, 2 * dim, dim, seed=1) @ (torch.eye(dim, device=DEVICE) + 0.05 * randn(dim, dim, seed=2))
        + 1
    )
    mean = real.mean(1)
    centered = real - mean[:, None]
    return Classes(randn(groups, 10, dim).requires_grad_(), mean, centered.mT @ centered / (2 * dim))


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


GAUSSIAN = Work(
    "gaussian",
    classes,
    gaussian_truth,
    tolerance=1e-5,
    target=("plain_dxd", 5),
    providers={
        "ours": Provider(gaussian_ours(square_known=True)),
        "ours_norm_each_call": Provider(gaussian_ours(square_known=False)),
        "plain_dxd": Provider(gaussian_plain(plain_gaussian)),
        "plain_dxd_compiled": Provider(gaussian_plain(compiled(plain_gaussian)), compiled=True),
    },
)

WORKS = [DIRE, GAUSSIAN]
