"""Which real images of a class its slots start from: a ranking of the class's images, best first.

    confident   images with the highest teacher probability of their class
    medium      images nearest in rank to the median of that probability (DELT, SRe2L++)
    kmeans      images nearest to the centers of k-means, largest cluster first
    herding     one image after another, so that the mean of the chosen stays nearest to the mean of the class

Ties go to the image that comes first in the data set. Cost for a class of n images with D numbers each: n log
n for the first two, n x count x D for the others, never n x n.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Selection = Literal["confident", "medium", "kmeans", "herding"]
SELECTIONS: tuple[str, ...] = get_args(Selection)


def select(kind: str, embeddings: Tensor, label: int, *, network: nn.Module, count: int, seed: int) -> Tensor:
    """The best images of a class.

    Args:
        kind: one of SELECTIONS.
        embeddings: embeddings [n, D] of all images of the class.
        label: number of the class.
        network: the teacher; its last linear layer turns embeddings into logits.
        count: number of images wanted, 1 to n.
        seed: seed of k-means.

    Returns:
        int64 [count], distinct positions among the n images, best first.
    """
    x = embeddings.double()
    if kind == "kmeans":
        return kmeans(x, count, seed)
    if kind == "herding":
        return herding(x, count)
    score = log_probability(x, label, network)
    return confident(score, count) if kind == "confident" else medium(score, count)


def log_probability(embeddings: Tensor, label: int, network: nn.Module) -> Tensor:
    """Log-probability [n] of the class, float64; many probabilities themselves would round to 1."""
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    bias = None if head.bias is None else head.bias.double().cpu()
    logits = nn.functional.linear(embeddings.double(), head.weight.double().cpu(), bias)
    return logits.log_softmax(1)[:, label]


def confident(score: Tensor, count: int) -> Tensor:
    """Positions of the ``count`` highest scores, highest first."""
    return score.sort(descending=True, stable=True).indices[:count]


def medium(score: Tensor, count: int) -> Tensor:
    """Positions outward from the median score, as in DELT's code.

    With scores in ascending order these are m, m + 1, m - 1, m + 2, ... for m = ceil(n / 2).
    """
    n = len(score)
    middle = min(math.ceil(n / 2), n - 1)
    distance = torch.arange(n) - middle
    # An image above the median precedes the one as far below it; where one side ends, the other continues.
    outward = (2 * distance.abs() - (distance > 0).long()).argsort(stable=True)
    return score.sort(stable=True).indices[outward[:count]]


def kmeans(x: Tensor, count: int, seed: int) -> Tensor:
    """For each of ``count`` centers of x [n, D], the nearest image that no larger cluster has taken."""
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=1, random_state=seed % 2**32).fit(x.numpy())
    distances = torch.from_numpy(found.transform(x.numpy()))
    sizes = torch.from_numpy(found.labels_).long().bincount(minlength=count)
    chosen = []
    for center in sizes.sort(descending=True, stable=True).indices.tolist():
        chosen.append(int(distances[:, center].argmin()))
        distances[chosen[-1]] = math.inf
    return torch.tensor(chosen)


def herding(x: Tensor, count: int) -> Tensor:
    """A greedy choice from x [n, D]: each image brings the mean of the chosen nearest to the mean of x."""
    mean, total = x.mean(0), torch.zeros(x.shape[1], dtype=x.dtype)
    taken = torch.zeros(len(x), dtype=torch.bool)
    chosen = []
    for k in range(1, count + 1):
        distance = ((total + x) / k - mean).square().sum(1).masked_fill(taken, math.inf)
        chosen.append(int(distance.argmin()))
        taken[chosen[-1]] = True
        total = total + x[chosen[-1]]
    return torch.tensor(chosen)
