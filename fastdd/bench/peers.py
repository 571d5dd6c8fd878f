"""What people use today for the same work, each as its source does it, and the plain definitions.

A plain form is what one would write with torch from the equation: the truth in float64, a baseline in
float32, and the form that torch.compile is given. Packages are imported where they are used: none of them is
needed for the others.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -- DiRe ------------------------------------------------------------------------------------------


def released_diversity_loss(embeddings: Tensor, real: Sequence[Tensor], images_per_class: int) -> Tensor:
    """DiRe's released loss (utils_regularized of SRe2L/CIFAR100), class after class with torchmetrics."""
    from torchmetrics.functional import pairwise_cosine_similarity, pairwise_euclidean_distance

    total = embeddings.new_zeros(())
    for synthetic, bank in zip(embeddings.split(images_per_class), real, strict=True):
        a = pairwise_cosine_similarity(synthetic, zero_diagonal=True).abs().mean()
        b = pairwise_euclidean_distance(synthetic, bank, zero_diagonal=True).mean()
        c = (1 - pairwise_cosine_similarity(synthetic, bank, zero_diagonal=True)).abs().mean()
        total = total + a + c + 0.01 * b
    return 0.1 * total


def plain_dire(synthetic: Tensor, real: Tensor) -> Tensor:
    """The same loss of all classes at once, [G, n, D] and [G, m, D]."""
    n, m = synthetic.shape[1], real.shape[1]
    u, v = F.normalize(synthetic, dim=2), F.normalize(real, dim=2)
    off_within, off_across = (1 - torch.eye(n, k, dtype=real.dtype, device=real.device) for k in (n, m))
    cd = (u @ u.mT * off_within).abs().mean((1, 2))
    cdm = (1 - u @ v.mT * off_across).abs().mean((1, 2))
    edm = (torch.cdist(synthetic, real) * off_across).mean((1, 2))
    return (0.1 * (cd + cdm) + 0.001 * edm).sum()


# -- Gaussian matching -----------------------------------------------------------------------------


def plain_gaussian(features: Tensor, class_mean: Tensor, class_cov: Tensor) -> tuple[Tensor, ...]:
    """DEDA's equations 6 to 9 as printed, for all groups at once, with the D x D covariance written out."""
    dim = features.shape[2]
    mean = features.mean(1)
    centered = features - mean[:, None]
    covariance = centered.mT @ centered / features.shape[1]
    alignment = (mean - class_mean).square().sum(1) + 50.0 * (covariance - class_cov).square().sum((1, 2))
    variances = covariance.diagonal(dim1=1, dim2=2)
    hinge = (1 - (variances + 1e-4).sqrt()).clamp(min=0).mean(1)
    off_diagonal = (covariance - torch.diag_embed(variances)).square().sum((1, 2)) / (dim * (dim - 1))
    return alignment, 0.2 * hinge + 4.0 * off_diagonal


def index_add_outer_products(
    features: Tensor, labels: Tensor, num_classes: int, batch: int = 100
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Class means and covariances by ``index_add_`` of outer products [batch, D, D] into [classes, D, D].

    Batches are kept to 100 rows, 105 MB of outer products at D = 512. Returns mean and covariance by class.
    """
    dim = features.shape[1]
    counts, sums = features.new_zeros(num_classes), features.new_zeros(num_classes, dim)
    products = features.new_zeros(num_classes, dim, dim)
    for x, y in zip(features.split(batch), labels.split(batch), strict=True):
        counts.index_add_(0, y, torch.ones_like(x[:, 0]))
        sums.index_add_(0, y, x)
        products.index_add_(0, y, x[:, :, None] * x[:, None, :])

    def statistics(c: int) -> tuple[Tensor, Tensor]:
        mean = sums[c] / counts[c]
        return mean, products[c] / counts[c] - torch.outer(mean, mean)

    return statistics


# -- BatchNorm statistics --------------------------------------------------------------------------


Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]
"""an activation [N, C, H, W] to the mean and the variance of each channel"""


def released_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance in SRe2L's hook (BNFeatureHook of SRe2L's recover)."""
    nch = x.shape[1]
    mean = x.mean([0, 2, 3])
    return mean, x.permute(1, 0, 2, 3).contiguous().view([nch, -1]).var(1, unbiased=False)


def var_mean_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same numbers without the transposed copy, as a careful user would write the hook."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, variance


class StatisticsHook:
    """Notes ||running_var - var|| + ||running_mean - mean|| of a BatchNorm's input at each forward pass, as
    SRe2L's hook does."""

    def __init__(self, module: nn.BatchNorm2d, statistics: Statistics) -> None:
        self.r_feature, self.statistics = torch.zeros(()), statistics
        module.register_forward_hook(self._note)

    def _note(self, module: nn.BatchNorm2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        mean, var = self.statistics(inputs[0])
        assert module.running_mean is not None
        assert module.running_var is not None
        self.r_feature = torch.norm(module.running_var - var, 2) + torch.norm(module.running_mean - mean, 2)


class HookedBatchNorm(nn.Module):
    """BatchNorm and ReLU of a frozen network as in torchvision's ResNet, with a hook on the BatchNorm.

    After a call, ``hook.r_feature`` is the loss of the layer.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, statistics: Statistics
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(len(weight), device=weight.device)
        state = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
        self.norm.load_state_dict(state, strict=False)
        self.relu = nn.ReLU(inplace=True)
        self.hook = StatisticsHook(self.norm, statistics)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(x))


def plain_batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, Tensor]:
    """Output and statistics loss of one layer."""
    y = F.relu(F.batch_norm(x, mean, var, weight, bias))
    batch_mean, batch_var = var_mean_statistics(x)
    return y, (var - batch_var).norm() + (mean - batch_mean).norm()


def plain_moments(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial mean and shifted mean square, one after the other."""
    return x.mean((2, 3)), (x - shift[:, None, None]).square().mean((2, 3))


def var_mean_moments(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The same from one ``torch.var_mean`` over the pixels."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return mean, variance + (mean - shift).square()


# -- images ----------------------------------------------------------------------------------------


def torchvision_resample(x: Tensor, parameters: Sequence[int], size: list[int]) -> Tensor:
    """Antialiased crop and flip of torchvision v2, then the roll of the released recover scripts."""
    from torchvision.transforms.v2 import functional as tv

    flip, roll_y, roll_x, top, left, height, width = parameters
    x = tv.resized_crop(x, top, left, height, width, size, antialias=True)
    x = tv.horizontal_flip(x) if flip else x
    return torch.roll(x, (roll_y, roll_x), (2, 3))


# -- pairs and sets --------------------------------------------------------------------------------


def plain_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosines [n, m] of all pairs of rows."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).mT


def plain_distance(x: Tensor, y: Tensor) -> Tensor:
    """Distances [n, m] of all pairs of rows by the expanded square, as most people write it."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.mT).clamp(min=1e-12).sqrt()


def prdc_coverage(real: np.ndarray, fake: np.ndarray, k: int) -> float:
    """The coverage of the prdc package: those lines of ``compute_prdc`` that it needs."""
    from prdc.prdc import compute_nearest_neighbour_distances, compute_pairwise_distance

    radii = compute_nearest_neighbour_distances(real, k)
    return float((compute_pairwise_distance(real, fake).min(axis=1) < radii).mean())


def prdc_all(real: np.ndarray, fake: np.ndarray, k: int) -> list[float]:
    """The prdc package as its README calls it: precision, recall, density, coverage."""
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        metrics = compute_prdc(real_features=real, fake_features=fake, nearest_k=k)
    return [float(metrics[name]) for name in ("precision", "recall", "density", "coverage")]


def vendi_kernel(x: np.ndarray, q: int) -> float:
    """The vendi-score package from the n x n kernel: ``score_X``, spelt out as that takes no notice of q."""
    from sklearn.preprocessing import normalize
    from vendi_score import vendi

    unit = normalize(x, axis=1)
    return float(vendi.score_K(unit @ unit.T, q=q))


def vendi_dual(x: np.ndarray, q: int) -> float:
    """The vendi-score package from the D x D matrix, as its README advises for more rows than features."""
    from vendi_score import vendi

    return float(vendi.score_dual(x, q=q))


def mean_cosine(x: np.ndarray) -> float:
    """Mean cosine of the pairs of different rows, from the matrix of all cosines, as sklearn gives it."""
    from sklearn.metrics.pairwise import cosine_similarity

    n = len(x)
    return float((cosine_similarity(x).sum() - n) / (n * (n - 1)))
