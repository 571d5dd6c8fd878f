"""Keeping a few rows from collapsing (DEDA): their covariance in Gram form, and its regularizer.

    variance hinge  mean_i max(0, 1 - sqrt(Cov[i, i] + eps))               (DEDA, eq. 7)
    off-diagonal    1 / (D (D - 1)) * sum_{i != j} Cov[i, j]^2             (DEDA, eq. 8)

n rows of D features, few rows of many features as a rule. Their D x D covariance is then never
formed: with Z the centered rows, it has the Frobenius norm of the n x n Gram matrix,

    ||Cov||_F = ||Z Zt||_F / n,   sum_{i != j} Cov[i, j]^2 = ||Cov||_F^2 - sum_i Cov[i, i]^2

Cost for each of G groups: 2 n^2 D operations if n < D; otherwise the covariance itself is the
smaller matrix, 2 n D^2 operations. The gradient costs the same again.

Precision: for n < D the off-diagonal term is a difference, off by about 1e-6 * ||Cov||_F^2 in float32;
with (nearly) uncorrelated features it can come out slightly negative. It is not clamped: a clamp
would change the gradient, which does not suffer from this.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .autograd import Context
from .product import matmul, root

# -- reference -------------------------------------------------------------------------------------


def covariance_reference(features: Tensor, unbiased: bool = False) -> Tensor:
    """The definition, [G, D, D]; one row has covariance zero, unbiased or not."""
    centered = features - features.mean(1, keepdim=True)
    return centered.mT @ centered / max(features.shape[1] - int(unbiased), 1)


def covariance_regularizer_reference(
    features: Tensor,
    lambda_var: float = 0.2,
    lambda_cov: float = 4.0,
    eps: float = 1e-4,
    unbiased: bool = False,
) -> Tensor:
    """The definition, with the [G, D, D] covariance written out; NaN gradient at zero variance and eps 0."""
    covariance = covariance_reference(features, unbiased)
    variances = covariance.diagonal(dim1=1, dim2=2)
    dim = features.shape[2]
    hinge = (1 - (variances + eps).sqrt()).clamp(min=0).mean(1)
    off_diagonal = (covariance - torch.diag_embed(variances)).square().sum((1, 2)) / max(dim * (dim - 1), 1)
    return lambda_var * hinge + lambda_cov * off_diagonal


# -- a few rows ------------------------------------------------------------------------------------


def center(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [G, D] and centered rows [G, n, D], in at least float32.

    Raises:
        ValueError: features is not a floating-point [G, n, D] with at least one row and one feature.
    """
    if features.ndim != 3 or 0 in features.shape[1:] or not features.is_floating_point():
        raise ValueError(
            "features must be a floating-point [G, n, D] with n, D > 0 (one group: features[None]), "
            f"got {tuple(features.shape)} {features.dtype}"
        )
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    mean = features.mean(1, keepdim=True)
    return mean.squeeze(1), features - mean


def divisor(centered: Tensor, unbiased: bool) -> int:
    """n or n - 1; one row has covariance zero either way."""
    return max(centered.shape[1] - int(unbiased), 1)


def row_covariance(centered: Tensor, unbiased: bool) -> Tensor:
    """Covariance of centered rows, [G, D, D]."""
    return matmul(centered.mT, centered) / divisor(centered, unbiased)


class _SquareNorm(torch.autograd.Function):
    """||Z Zt||_F^2 from the smaller of Z Zt and Zt Z; the gradient is 4 Z Zt Z, one product and not two."""

    @staticmethod
    def forward(rows: Tensor) -> tuple[Tensor, Tensor]:
        gram = _smaller_gram(rows)
        return gram.square().sum((1, 2)), gram

    @staticmethod
    def setup_context(ctx: Context[None], inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Context[None], *grads: Tensor) -> Tensor:
        rows, gram = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the kept matrix would be a constant to autograd
            gram = _smaller_gram(rows)
        gram = 4 * grads[0].view(-1, 1, 1) * gram
        return matmul(gram, rows) if rows.shape[1] < rows.shape[2] else matmul(rows, gram)


def _smaller_gram(rows: Tensor) -> Tensor:
    return matmul(rows, rows.mT) if rows.shape[1] < rows.shape[2] else matmul(rows.mT, rows)


def covariance_square_norm(centered: Tensor, unbiased: bool) -> Tensor:
    """||Cov||_F^2 of centered rows, [G], from the smaller of the two matrices that have this norm."""
    return _SquareNorm.apply(centered)[0] / divisor(centered, unbiased) ** 2


def _variances(centered: Tensor, unbiased: bool) -> Tensor:
    return centered.square().sum(1) / divisor(centered, unbiased)


def _hinge(variances: Tensor, eps: float) -> Tensor:
    if eps < 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    return (1 - ((variances + eps).sqrt() if eps > 0 else root(variances))).relu().mean(1)


def _off_diagonal(centered: Tensor, variances: Tensor, unbiased: bool) -> Tensor:
    _, n, dim = centered.shape
    if n < dim:
        total = covariance_square_norm(centered, unbiased) - variances.square().sum(1)
    else:
        diagonal = torch.eye(dim, dtype=torch.bool, device=centered.device)
        total = row_covariance(centered, unbiased).masked_fill(diagonal, 0.0).square().sum((1, 2))
    return total / max(dim * (dim - 1), 1)  # one feature has no pair: total is 0


# -- public functions ------------------------------------------------------------------------------


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
    return _hinge(_variances(center(features)[1], unbiased), eps)


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
    _, centered = center(features)
    return _off_diagonal(centered, _variances(centered, unbiased), unbiased)


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
    _, centered = center(features)
    variances = _variances(centered, unbiased)
    return lambda_var * _hinge(variances, eps) + lambda_cov * _off_diagonal(centered, variances, unbiased)
