"""Which images of a class its slots start from: a ranking of the class's images, best first.

    confident   images with the highest teacher probability of their class
    medium      images nearest in rank to the median of that probability (DELT, SRe2L++)
    kmeans      images nearest to the centers of k-means, largest cluster first
    herding     one image after another, so that the mean of the chosen stays nearest to the mean of the class
                (Welling, 2009)
    kcenter     one image after another, each the farthest from those chosen; the first is drawn (Sener and
                Savarese, 2018)
    moderate    images whose distance from the mean of the class is nearest to the median of these distances
                (Xia et al., 2023)
    random      a seeded draw, which begins with that of fewer images
    first       the first in the data set

Ties go to the image that comes first in the data set. Cost for a class of n images with D numbers each: n log
n for ranks, n x count x D for k-means, herding and kcenter, never n x n.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...config.method import BY_EMBEDDING

NEEDING_EMBEDDINGS: tuple[str, ...] = BY_EMBEDDING
"""rules that look at embeddings"""


def select(
    kind: str,
    images: int,
    embeddings: Tensor | None,
    label: int,
    *,
    network: nn.Module,
    count: int,
    seed: int,
) -> Tensor:
    """The best images of a class.

    Args:
        kind: the rule.
        images: number n of images of the class.
        embeddings: their embeddings [n, D]; None: the rule needs none.
        label: number of the class.
        network: the teacher; its last linear layer turns embeddings into logits.
        count: number of images wanted, 1 to n.
        seed: seed of random draws, of k-means and of the first image of kcenter.

    Returns:
        int64 [count], distinct positions among the n images, best first.
    """
    if embeddings is None:
        order = torch.arange(images)
        return (permutation(images, seed) if kind == "random" else order)[:count]
    x = embeddings.double()
    if kind == "kmeans":
        return kmeans(x, count, seed)
    if kind == "herding":
        return herding(x, count)
    if kind == "kcenter":
        return kcenter(x, count, int(permutation(images, seed)[0]))
    if kind == "moderate":
        return moderate(x, count)
    score = log_probability(x, label, network)
    return confident(score, count) if kind == "confident" else medium(score, count)


def permutation(count: int, seed: int) -> Tensor:
    """The numbers below ``count`` in a random order, int64."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


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


def kcenter(x: Tensor, count: int, first: int) -> Tensor:
    """A greedy choice from x [n, D] that begins with one image: each further one is the farthest from all
    chosen ones, by its distance to the nearest of them."""
    chosen, nearest = [first], (x - x[first]).square().sum(1)
    while len(chosen) < count:
        nearest[chosen] = -1.0  # taken, also where all others lie on chosen ones
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((x - x[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def moderate(x: Tensor, count: int) -> Tensor:
    """The images of x [n, D] whose distance from the mean of x is nearest to the median distance, nearest
    first; the median of an even number is the mean of the two in the middle."""
    distance = (x - x.mean(0)).square().sum(1).sqrt()
    return (distance - distance.quantile(0.5)).abs().sort(stable=True).indices[:count]
