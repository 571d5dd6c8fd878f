"""Works on all pairs of rows of two sets, forward and backward to one of them, the synthetic side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastdd_kernels import distance_sum, pairwise_cosine_similarity, pairwise_euclidean_distance

from ..peers import plain_cosine, plain_distance
from ..work import Call, Goal, Least, Scale, Side, Work, compiled, with_gradient


class Pairs(NamedTuple):
    x: Tensor  # [n, D], a leaf: the synthetic side
    y: Tensor  # [m, D]
    upstream: list[Tensor]  # gradient of the result


def pairs(scale: Scale, n: int, m: int, dim: int, result: tuple[int, ...]) -> Pairs:
    """Random rows of two sets, and the gradient of a result of this shape."""
    x = scale.randn(n, dim).requires_grad_()
    return Pairs(x, 1 + scale.randn(m, dim, seed=1), [scale.randn(*result, seed=2)])


def moved(inputs: Pairs) -> Least:
    """The sets are read, the gradient is written; a mean of products needs no product of two rows."""
    return Least(bytes=2 * inputs.x.nbytes + inputs.y.nbytes + inputs.upstream[0].nbytes)


def multiplied(inputs: Pairs) -> Least:
    """The same, and two products of all pairs, forward and backward."""
    (n, dim), m = inputs.x.shape, len(inputs.y)
    return Least(bytes=moved(inputs).bytes, operations=4 * n * m * dim)


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
    scale: Scale,
    kind: str,
    ours: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    reduction: str | None,
    *,
    goals: tuple[Goal, ...] = (),
) -> Work[Pairs]:
    """All pairs by one of torchmetrics' functions, the matrix or the means of its rows."""
    n, m, dim = scale.size(1000, 60), scale.size(5000, 300), 512

    def reduced(x: Tensor, y: Tensor) -> Tensor:
        matrix = plain(x, y)
        return matrix if reduction is None else matrix.mean(1)

    result = reduction or "matrix"
    return Work(
        f"pairs_{kind}_{result}",
        f"{kind} of all pairs of {n} and {m} rows of {dim}, the {result}, forward and backward",
        lambda: pairs(scale, n, m, dim, (n,) if reduction else (n, m)),
        pairs_truth(reduced),
        tolerance=1e-5,
        goals=goals,
        least=moved if (kind, reduction) == ("cosine", "mean") else multiplied,
        sides={
            "ours": Side(pairs_call(lambda x, y: ours(x, y, reduction=reduction))),
            "torchmetrics": Side(pairs_call(torchmetrics(ours.__name__, reduction)), needs=("torchmetrics",)),
            "plain_compiled": Side(pairs_call(compiled(reduced)), compiled=True),
        },
    )


def distance_work(scale: Scale, name: str, n: int, m: int, dim: int) -> Work[Pairs]:
    return Work(
        name,
        f"sum of the distances of all pairs of {n} and {m} rows of {dim}, forward and backward",
        lambda: pairs(scale, n, m, dim, ()),
        pairs_truth(lambda x, y: plain_distance(x, y).sum()),
        tolerance=1e-5,
        goals=(Goal("faster", 1.0, "plain_compiled"),),
        least=multiplied,
        sides={
            "ours": Side(pairs_call(lambda x, y: distance_sum(x[None], y[None])[0])),
            "torch_cdist": Side(pairs_call(lambda x, y: torch.cdist(x, y).sum())),
            "plain_compiled": Side(
                pairs_call(compiled(lambda x, y: plain_distance(x, y).sum())), compiled=True
            ),
        },
    )


def works(scale: Scale) -> list[Work]:
    """The works on pairs; on a GPU also a large one."""
    as_fast = (Goal("faster", 1.0, "plain_compiled"),)
    cosine, euclidean = pairwise_cosine_similarity, pairwise_euclidean_distance
    found = [
        pairwise_work(scale, "cosine", cosine, plain_cosine, "mean"),
        pairwise_work(scale, "cosine", cosine, plain_cosine, None),
        pairwise_work(scale, "euclidean", euclidean, plain_distance, "mean", goals=as_fast),
        pairwise_work(scale, "euclidean", euclidean, plain_distance, None, goals=as_fast),
        distance_work(scale, "pairs_distance_sum", scale.size(1000, 60), scale.size(5000, 300), 512),
    ]
    if scale.device.type == "cuda" and not scale.quick:
        found.append(distance_work(scale, "pairs_distance_sum_large", 8192, 16384, 2048))
    return found
