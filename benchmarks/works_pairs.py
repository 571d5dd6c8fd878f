"""Works on all pairs of rows of two sets, forward and backward to one of them, the synthetic side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from baselines import plain_cosine, plain_distance
from torch import Tensor
from works import DEVICE, QUICK, Call, Provider, Work, compiled, randn, size, with_gradient

from fastdd_kernels import distance_sum, pairwise_cosine_similarity, pairwise_euclidean_distance


class Pairs(NamedTuple):
    x: Tensor  # [n, D], a leaf: the synthetic side
    y: Tensor  # [m, D]
    upstream: list[Tensor]  # gradient of the result


def pairs(n: int, m: int, dim: int, result: tuple[int, ...]) -> Callable[[], Pairs]:
    return lambda: Pairs(randn(n, dim).requires_grad_(), 1 + randn(m, dim, seed=1), [randn(*result, seed=2)])


def pairs_call(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Pairs], Call]:
    return lambda inputs: lambda: with_gradient([function(inputs.x, inputs.y)], inputs.x, inputs.upstream)


def pairs_truth(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Pairs], list[Tensor]]:
    def truth(inputs: Pairs) -> list[Tensor]:
        x = inputs.x.detach().double().requires_grad_()
        return with_gradient([function(x, inputs.y.double())], x, [up.double() for up in inputs.upstream])

    return truth


def torchmetrics(name: str, reduction: str | None) -> Callable[[Tensor, Tensor], Tensor]:
    def function(x: Tensor, y: Tensor) -> Tensor:
        from torchmetrics.functional import pairwise

        return getattr(pairwise, name)(x, y, reduction=reduction)

    return function


def pairwise_work(
    kind: str, ours: Callable[..., Tensor], plain: Callable[..., Tensor], reduction: str | None
) -> Work:
    n, m, dim = size(1000, 60), size(5000, 300), 512

    def reduced(x: Tensor, y: Tensor) -> Tensor:
        matrix = plain(x, y)
        return matrix if reduction is None else matrix.mean(1)

    return Work(
        f"pairs_{kind}_{reduction or 'matrix'}",
        pairs(n, m, dim, (n,) if reduction else (n, m)),
        pairs_truth(reduced),
        tolerance=1e-5,
        providers={
            "ours": Provider(pairs_call(lambda x, y: ours(x, y, reduction=reduction))),
            "torchmetrics": Provider(pairs_call(torchmetrics(ours.__name__, reduction)), ("torchmetrics",)),
            "plain_compiled": Provider(pairs_call(compiled(reduced)), compiled=True),
        },
    )


def distance_work(name: str, n: int, m: int, dim: int) -> Work:
    return Work(
        name,
        pairs(n, m, dim, ()),
        pairs_truth(lambda x, y: plain_distance(x, y).sum()),
        tolerance=1e-5,
        flops=4 * n * m * dim,
        providers={
            "ours": Provider(pairs_call(lambda x, y: distance_sum(x[None], y[None])[0])),
            "torch_cdist": Provider(pairs_call(lambda x, y: torch.cdist(x, y).sum())),
            "plain_compiled": Provider(
                pairs_call(compiled(lambda x, y: plain_distance(x, y).sum())), compiled=True
            ),
        },
    )


WORKS = [
    pairwise_work("cosine", pairwise_cosine_similarity, plain_cosine, "mean"),
    pairwise_work("cosine", pairwise_cosine_similarity, plain_cosine, None),
    pairwise_work("euclidean", pairwise_euclidean_distance, plain_distance, "mean"),
    pairwise_work("euclidean", pairwise_euclidean_distance, plain_distance, None),
    distance_work("pairs_distance_sum", size(1000, 60), size(5000, 300), 512),
]
if DEVICE.type == "cuda" and not QUICK:
    WORKS.append(distance_work("pairs_distance_sum_large", 8192, 16384, 2048))
