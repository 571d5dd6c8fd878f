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
    grand       images with the largest gradient of the cross-entropy with respect to the last layer of the
                teacher, |p - o| sqrt(1 + |h|^2) for the embedding h and the one-hot o of the class: GraNd
                (Paul et al., 2021), of the trained network as in DeepCore
    el2n        images with the largest mean of |p - o| over the first epochs of a training (EL2N, Paul et
                al., 2021)
    forgetting  images that were forgotten most often; one that was never learned counts as forgotten without
                end, as in the paper and unlike in released code (Toneva et al., 2019)
    aum         images with the lowest mean margin p_y - max of the others over a training (Pleiss et al.,
                2020)
    ccs         without the 30 % of lowest margin, images from all ranges of the margin alike (Zheng et al.,
                2023)
    random      a seeded draw, which begins with that of fewer images
    first       the first in the data set

Ties go to the image that comes first in the data set. Cost for a class of n images with D numbers each: n log
n for ranks, n x count x D for k-means, herding and kcenter, never n x n.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LEFT_OUT = 0.3
"""ccs: share of a class's images that is left out as too hard, CCS's for CIFAR-10 at high pruning rates"""
STRATA = 50
"""ccs: ranges of equal width"""


def select(
    kind: str,
    images: int,
    label: int,
    *,
    embeddings: Tensor | None,
    scores: Tensor | None,
    network: nn.Module,
    count: int,
    seed: int,
) -> Tensor:
    """The best images of a class.

    Args:
        embeddings: their embeddings [n, D]; None: the rule needs none.
        scores: how hard each was to learn, [n], larger is harder; None: the rule needs none.
        network: the teacher; its last linear layer turns embeddings into logits.
        seed: seed of random draws, of k-means, of ccs and of the first image of kcenter.

    Returns:
        int64 [count], distinct positions among the n images, best first.
    """
    if scores is not None:
        return ccs(-scores.double(), count, seed) if kind == "ccs" else confident(scores, count)
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
    if kind == "grand":
        return confident(grand(x, logits_of(x, network), label), count)
    score = log_probability(x, label, network)
    return confident(score, count) if kind == "confident" else medium(score, count)


def permutation(count: int, seed: int) -> Tensor:
    """The numbers below ``count`` in a random order, int64."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def ranks_of_cells(slots: int, cells: int) -> Tensor:
    """The rank [slots] of the image in each slot of a class, for a formation of cells (CIM).

    The best images take the first cells of all stored images, the next ones the second cells, and so on: slot
    n ``cells`` + k, cell k of the stored image n of M, has the rank k M + n.
    """
    return torch.arange(slots).view(cells, -1).T.flatten()


def log_probability(embeddings: Tensor, label: int, network: nn.Module) -> Tensor:
    """Log-probability [n] of the class, float64; many probabilities themselves would round to 1."""
    return logits_of(embeddings, network).log_softmax(1)[:, label]


def logits_of(embeddings: Tensor, network: nn.Module) -> Tensor:
    """What the network's last linear layer makes of embeddings [n, D]: float64 [n, classes]."""
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    bias = None if head.bias is None else head.bias.double().cpu()
    return nn.functional.linear(embeddings.double(), head.weight.double().cpu(), bias)


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


def grand(embeddings: Tensor, logits: Tensor, label: int) -> Tensor:
    """Norm [n] of the gradient of each image's cross-entropy with respect to weights and bias of the last
    layer, from embeddings [n, D] and logits [n, classes]."""
    p = logits.softmax(1)
    p[:, label] -= 1
    return p.norm(dim=1) * (1 + embeddings.square().sum(1)).sqrt()


def ccs(margin: Tensor, count: int, seed: int) -> Tensor:
    """Coverage-centric choice: of the images without those of lowest margin [n], as many of each stratum.

    As many hard images stay as ``count`` needs. Those of a stratum are drawn; the strata follow by margin.
    """
    n = len(margin)
    kept = margin.sort(stable=True).indices[min(int(LEFT_OUT * n), n - count) :]
    stratum = strata(margin[kept], STRATA)
    wanted = budgets(stratum.bincount(minlength=STRATA).tolist(), count)
    order = kept[permutation(len(kept), seed)]
    drawn = stratum[permutation(len(kept), seed)]
    return torch.cat([order[drawn == number][:budget] for number, budget in enumerate(wanted)])


def strata(values: Tensor, count: int) -> Tensor:
    """The stratum [n] of each value, of ``count`` of equal width from the least to the largest value.

    The largest value is in the last one, whatever its sign; released code widens the range by a factor, which
    for a negative largest value leaves it out.
    """
    low, high = values.min(), values.max()
    if low == high:
        return torch.zeros(len(values), dtype=torch.int64)
    return ((values - low) / (high - low) * count).long().clamp(max=count - 1)


def budgets(sizes: list[int], count: int) -> list[int]:
    """How many of ``count`` images each stratum gives: from the smallest one up, its share of what is left or
    all that it has."""
    found = [0] * len(sizes)
    for done, number in enumerate(sorted(range(len(sizes)), key=lambda each: sizes[each])):
        found[number] = min(sizes[number], (count - sum(found)) // (len(sizes) - done))
    return found
