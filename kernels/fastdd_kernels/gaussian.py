"""Matching a class's Gaussian (DEDA): mean, covariance, and a regulariser against collapse.

    alignment       ||mu_S - mu_T||^2 + gamma * ||Cov_S - Cov_T||_F^2        (DEDA, eq. 6)
    variance hinge  mean_i max(0, 1 - sqrt(Cov_S[i, i] + eps))               (DEDA, eq. 7)
    off-diagonal    1 / (D (D - 1)) * sum_{i != j} Cov_S[i, j]^2             (DEDA, eq. 8)

The synthetic side S has n rows of D features, few rows of many features as a rule. Its D x D
covariance is then never formed: with Z the centred rows and K = Z Zt / n their n x n Gram matrix,

    ||Cov_S||_F^2 = ||K||_F^2      <Cov_S, Cov_T> = sum((Z Cov_T) * Z) / n

Cost for each of G groups: n^2 D + n D^2 operations if n < D; otherwise the covariance itself is
the smaller matrix, n D^2 operations. The gradient costs the same again.

Precision: for n < D the squared covariance difference is ||K||^2 - 2<Cov_S, Cov_T> + ||Cov_T||^2,
so near a perfect match it is off by rounding, about 1e-6 * ||Cov_T||_F^2 in float32, and can come
out slightly negative. It is not clamped: a clamp would
change the gradient, which does not suffer from this.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .product import matmul

Normalize = Literal["none", "dim"]

# -- reference -------------------------------------------------------------------------------------


def _covariance_reference(features: Tensor, unbiased: bool) -> Tensor:
    centred = features - features.mean(1, keepdim=True)
    return centred.mT @ centred / max(features.shape[1] - int(unbiased), 1)


def gaussian_alignment_reference(
    features: Tensor,
    class_mean: Tensor,
    class_cov: Tensor,
    gamma: float = 50.0,
    normalize: Normalize = "none",
    unbiased: bool = False,
) -> Tensor:
    """The definition, with the [G, D, D] covariance written out, in the precision of the input."""
    difference = (_covariance_reference(features, unbiased) - class_cov).square().sum((1, 2))
    weight = gamma / features.shape[2] if normalize == "dim" else gamma
    return (features.mean(1) - class_mean).square().sum(1) + weight * difference


def covariance_regularizer_reference(
    features: Tensor,
    lambda_var: float = 0.2,
    lambda_cov: float = 4.0,
    eps: float = 1e-4,
    unbiased: bool = False,
) -> Tensor:
    """The definition, with the [G, D, D] covariance written out; NaN gradient at zero variance and eps 0."""
    covariance = _covariance_reference(features, unbiased)
    variances = covariance.diagonal(dim1=1, dim2=2)
    dim = features.shape[2]
    hinge = (1 - (variances + eps).sqrt()).clamp(min=0).mean(1)
    off_diagonal = (covariance - torch.diag_embed(variances)).square().sum((1, 2)) / (dim * (dim - 1))
    return lambda_var * hinge + lambda_cov * off_diagonal


# -- symmetric storage -----------------------------------------------------------------------------


def pack_symmetric(matrix: Tensor) -> Tensor:
    """Lower triangle of symmetric matrices, row after row: [..., D, D] -> [..., D(D+1)/2].

    Raises:
        ValueError: the last two dimensions are not a square.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix must be [..., D, D], got {tuple(matrix.shape)}")
    row, column = torch.tril_indices(*matrix.shape[-2:], device=matrix.device)
    return matrix[..., row, column]


def unpack_symmetric(packed: Tensor) -> Tensor:
    """Symmetric matrices from their packed lower triangles: [..., D(D+1)/2] -> [..., D, D].

    Raises:
        ValueError: the last dimension is not D(D+1)/2 for any D.
    """
    length = packed.shape[-1] if packed.ndim else 0
    dim = int((2 * length) ** 0.5)
    if dim * (dim + 1) // 2 != length or not length:
        raise ValueError(f"packed must be [..., D(D+1)/2] for some D, got {tuple(packed.shape)}")
    i = torch.arange(dim, device=packed.device)
    low, high = torch.minimum(i[:, None], i), torch.maximum(i[:, None], i)
    return packed[..., high * (high + 1) // 2 + low]


def _square_norm(covariance: Tensor) -> Tensor:
    return covariance.square().sum((1, 2))


# -- the synthetic side ----------------------------------------------------------------------------


def _centre(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [G, D] and centred rows [G, n, D], in at least float32."""
    if features.ndim != 3 or 0 in features.shape[1:] or not features.is_floating_point():
        raise ValueError(
            "features must be a floating-point [G, n, D] with n, D > 0 (one group: features[None]), "
            f"got {tuple(features.shape)} {features.dtype}"
        )
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    mean = features.mean(1, keepdim=True)
    return mean.squeeze(1), features - mean


def _divisor(centred: Tensor, unbiased: bool) -> int:
    """n or n - 1; one row has covariance zero either way."""
    return max(centred.shape[1] - int(unbiased), 1)


def _variances(centred: Tensor, unbiased: bool) -> Tensor:
    return centred.square().sum(1) / _divisor(centred, unbiased)


def _hinge(variances: Tensor, eps: float) -> Tensor:
    # The root of a zero is skipped, not merely multiplied by zero: its slope is infinite.
    shifted = variances + eps
    positive = shifted > 0
    deviation = torch.where(positive, torch.where(positive, shifted, 1.0).sqrt(), 0.0)
    return (1 - deviation).clamp(min=0).mean(1)


def _off_diagonal(centred: Tensor, variances: Tensor, unbiased: bool) -> Tensor:
    _, n, dim = centred.shape
    if n < dim:
        gram = matmul(centred, centred.mT) / _divisor(centred, unbiased)
        total = _square_norm(gram) - variances.square().sum(1)
    else:
        covariance = matmul(centred.mT, centred) / _divisor(centred, unbiased)
        diagonal = torch.eye(dim, dtype=torch.bool, device=centred.device)
        total = _square_norm(covariance.masked_fill(diagonal, 0.0))
    return total / max(dim * (dim - 1), 1)  # one feature has no pair: total is 0


# -- public functions ------------------------------------------------------------------------------


def mean_alignment(features: Tensor, class_mean: Tensor) -> Tensor:
    """Squared distance between group means and class means: the first term of DEDA, eq. 6.

    Args:
        features: [G, n, D], n feature rows of each of G groups, any float dtype.
        class_mean: [G, D], the real mean for each group.

    Returns:
        [G], float32 (float64 for float64 features).

    Raises:
        ValueError: shapes do not fit.
    """
    mean, _ = _centre(features)
    if class_mean.shape != mean.shape:
        raise ValueError(f"class_mean must be {tuple(mean.shape)} (G, D), got {tuple(class_mean.shape)}")
    return (mean - class_mean.to(mean.dtype)).square().sum(1)


def covariance_alignment(
    features: Tensor,
    class_cov: Tensor,
    class_cov_square: Tensor | None = None,
    normalize: Normalize = "none",
    unbiased: bool = False,
) -> Tensor:
    """Squared Frobenius distance between covariances: the second term of DEDA, eq. 6, without gamma.

    Arguments, result and errors are those of :func:`gaussian_alignment`.
    """
    _, centred = _centre(features)
    groups, n, dim = centred.shape
    if normalize not in ("none", "dim"):
        raise ValueError(f"normalize must be 'none' or 'dim', got {normalize!r}")
    if class_cov.shape not in ((groups, dim, dim), (groups, dim * (dim + 1) // 2)):
        raise ValueError(
            f"class_cov must be [{groups}, {dim}, {dim}] or packed [{groups}, {dim * (dim + 1) // 2}], "
            f"got {tuple(class_cov.shape)}"
        )
    if class_cov_square is not None and class_cov_square.shape != (groups,):
        raise ValueError(f"class_cov_square must be [{groups}], got {tuple(class_cov_square.shape)}")
    target = class_cov.to(centred.dtype)
    if target.ndim == 2:
        target = unpack_symmetric(target)
    divisor = _divisor(centred, unbiased)
    if n < dim:
        gram = matmul(centred, centred.mT) / divisor
        inner = (matmul(centred, target) * centred).sum((1, 2)) / divisor
        square = _square_norm(target) if class_cov_square is None else class_cov_square
        distance = _square_norm(gram) - 2 * inner + square.to(centred.dtype)
    else:
        distance = _square_norm(matmul(centred.mT, centred) / divisor - target)
    return distance / dim if normalize == "dim" else distance


def gaussian_alignment(
    features: Tensor,
    class_mean: Tensor,
    class_cov: Tensor,
    gamma: float = 50.0,
    normalize: Normalize = "none",
    unbiased: bool = False,
    class_cov_square: Tensor | None = None,
) -> Tensor:
    """Gaussian alignment of each group with its class: ||dmu||^2 + gamma * ||dCov||_F^2 (DEDA, eq. 6).

    Args:
        features: [G, n, D], n feature rows of each of G groups, any float dtype.
        class_mean: [G, D], the real mean for each group.
        class_cov: real covariance, [G, D, D] (symmetric) or its lower triangle [G, D(D+1)/2] as
            :func:`pack_symmetric` gives it; any float dtype.
        gamma: weight of the covariance term.
        normalize: "none" as the paper prints it; "dim" divides the covariance term by D (as DSDM).
        unbiased: divide the synthetic covariance by n - 1 instead of n.
        class_cov_square: [G], ||class_cov||_F^2 if it is known already; saves a read of class_cov.

    Returns:
        [G], float32 (float64 for float64 features).

    Raises:
        ValueError: shapes do not fit or normalize is unknown.
    """
    covariance_term = covariance_alignment(features, class_cov, class_cov_square, normalize, unbiased)
    return mean_alignment(features, class_mean) + gamma * covariance_term


def variance_hinge(features: Tensor, eps: float = 1e-4, unbiased: bool = False) -> Tensor:
    """Hinge that keeps each feature's deviation above 1: mean_i max(0, 1 - sqrt(var_i + eps)) (DEDA, eq. 7).

    Args:
        features: [G, n, D], any float dtype.
        eps: added to the variance; 0 is the printed equation, 1e-4 VICReg's value. A feature
            without variance has zero gradient in both, so one row gives the constant 1 - sqrt(eps).
        unbiased: divide by n - 1 instead of n.

    Returns:
        [G], float32 (float64 for float64 features).

    Raises:
        ValueError: features is not [G, n, D], or eps is negative.
    """
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    return _hinge(_variances(_centre(features)[1], unbiased), eps)


def off_diagonal_covariance(features: Tensor, unbiased: bool = False) -> Tensor:
    """Mean square of the off-diagonal covariances: sum_{i != j} Cov_ij^2 / (D (D - 1)) (DEDA, eq. 8).

    Args:
        features: [G, n, D], any float dtype. One row, or one feature, gives zero.
        unbiased: divide by n - 1 instead of n.

    Returns:
        [G], float32 (float64 for float64 features); unclamped, see the note on precision above.

    Raises:
        ValueError: features is not [G, n, D].
    """
    _, centred = _centre(features)
    return _off_diagonal(centred, _variances(centred, unbiased), unbiased)


def covariance_regularizer(
    features: Tensor,
    lambda_var: float = 0.2,
    lambda_cov: float = 4.0,
    eps: float = 1e-4,
    unbiased: bool = False,
) -> Tensor:
    """lambda_var * :func:`variance_hinge` + lambda_cov * :func:`off_diagonal_covariance` (DEDA, eq. 9).

    Arguments are theirs, with the paper's weights by default; returns [G].
    """
    hinge = variance_hinge(features, eps, unbiased)
    return lambda_var * hinge + lambda_cov * off_diagonal_covariance(features, unbiased)
