"""Matching a class's Gaussian (DEDA): the mean and the covariance of a few rows with given ones.

    alignment       ||mu_S - mu_T||^2 + gamma * ||Cov_S - Cov_T||_F^2        (DEDA, eq. 6)

The synthetic side S has n rows of D features, few rows of many features as a rule. Its D x D
covariance is then never formed: with Z the centered rows and K = Z Zt / n their n x n Gram matrix,

    ||Cov_S - Cov_T||_F^2 = ||K||_F^2 - 2 sum((Z Cov_T) * Z) / n + ||Cov_T||_F^2

Cost for each of G groups: 2 n^2 D + 2 n D^2 operations if n < D, 2 n^2 D + 2 n D r with a target of
rank r; the gradient about 2 n^2 D more (Z Cov_T is half of it, and known). For n >= D the covariance
itself is the smaller matrix, 2 n D^2 operations, and the difference is taken element by element.
||Cov_T||_F^2 is a constant: a read of the target that ``class_cov_square`` saves.

Precision: for n < D (always, if the target is of low rank) the squared covariance difference is a sum
that cancels, so near a perfect match it is off by rounding, about 1e-6 * ||Cov_T||_F^2 in float32, and
can come out slightly negative. It is not clamped: a clamp would change the gradient, which does not
suffer from this.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .covariance import center, covariance_reference, covariance_square_norm, divisor, row_covariance
from .symmetric import (
    Covariance,
    LowRankCovariance,
    dense_covariance,
    quadratic_form,
    square_norm,
    unpack_symmetric,
)

Normalize = Literal["none", "dim"]

# -- reference -------------------------------------------------------------------------------------


def gaussian_alignment_reference(
    features: Tensor,
    class_mean: Tensor,
    class_cov: Covariance,
    gamma: float = 50.0,
    normalize: Normalize = "none",
    unbiased: bool = False,
) -> Tensor:
    """The definition, with both [G, D, D] covariances written out, in the precision of the input."""
    difference = (covariance_reference(features, unbiased) - dense_covariance(class_cov)).square().sum((1, 2))
    weight = gamma / features.shape[2] if normalize == "dim" else gamma
    return (features.mean(1) - class_mean).square().sum(1) + weight * difference


# -- the term of the covariance -----------------------------------------------------------------------


def _check_targets(
    shape: tuple[int, ...], class_mean: Tensor, class_cov: Covariance, square: Tensor | None = None
) -> None:
    """Raise a ValueError unless the targets fit G groups of D features; shape is (G, D)."""
    groups, dim = shape
    if class_mean.shape != shape:
        raise ValueError(f"class_mean must be {(groups, dim)} (G, D), got {tuple(class_mean.shape)}")
    if isinstance(class_cov, LowRankCovariance):
        factor, diagonal = class_cov
        if factor.ndim != 3 or factor.shape[:2] != shape:
            raise ValueError(f"class_cov.factor must be [{groups}, {dim}, r], got {tuple(factor.shape)}")
        if diagonal is not None and diagonal.shape != shape:
            raise ValueError(f"class_cov.diagonal must be [{groups}, {dim}], got {tuple(diagonal.shape)}")
    elif class_cov.shape not in ((groups, dim, dim), (groups, dim * (dim + 1) // 2)):
        raise ValueError(
            f"class_cov must be [{groups}, {dim}, {dim}] or packed [{groups}, {dim * (dim + 1) // 2}], "
            f"got {tuple(class_cov.shape)}"
        )
    if square is not None and square.shape != (groups,):
        raise ValueError(f"class_cov_square must be [{groups}], got {tuple(square.shape)}")


def _covariance_term(
    centered: Tensor, class_cov: Covariance, square: Tensor | None, normalize: Normalize, unbiased: bool
) -> Tensor:
    _, n, dim = centered.shape
    if normalize not in ("none", "dim"):
        raise ValueError(f"normalize must be 'none' or 'dim', got {normalize!r}")
    if n < dim or isinstance(class_cov, LowRankCovariance):
        square = square_norm(class_cov, centered.dtype) if square is None else square
        inner = quadratic_form(centered, class_cov) / divisor(centered, unbiased)
        distance = covariance_square_norm(centered, unbiased) - 2 * inner + square.to(centered.dtype)
    else:
        # D^2 numbers to write a packed target out, beside the 2 n D^2 operations of the covariance.
        target = unpack_symmetric(class_cov) if class_cov.ndim == 2 else class_cov
        distance = (row_covariance(centered, unbiased) - target.to(centered.dtype)).square().sum((1, 2))
    return distance / dim if normalize == "dim" else distance


# -- public functions ------------------------------------------------------------------------------


def gaussian_alignment(
    features: Tensor,
    class_mean: Tensor,
    class_cov: Covariance,
    gamma: float = 50.0,
    normalize: Normalize = "none",
    unbiased: bool = False,
    class_cov_square: Tensor | None = None,
) -> Tensor:
    """Gaussian alignment of each group with its class: ||dmu||^2 + gamma * ||dCov||_F^2 (DEDA, eq. 6).

    Args:
        features: [G, n, D], n feature rows of each of G groups, any float dtype. With n = 1 the
            covariance is zero, and its term a constant without gradient.
        class_mean: [G, D], the real mean for each group.
        class_cov: real covariance, any float dtype: [G, D, D] (symmetric), its lower triangle
            [G, D(D+1)/2] as :func:`pack_symmetric` gives it, or a :class:`LowRankCovariance`.
        gamma: weight of the covariance term.
        normalize: "none" as the paper prints it; "dim" divides the covariance term by D (as DSDM).
        unbiased: divide the synthetic covariance by n - 1 instead of n.
        class_cov_square: [G], ||class_cov||_F^2 if it is known already; saves a read of class_cov.

    Returns:
        [G], float32 (float64 for float64 features).

    Raises:
        ValueError: shapes do not fit or normalize is unknown.
    """
    mean, centered = center(features)
    _check_targets(mean.shape, class_mean, class_cov, class_cov_square)
    covariance_term = _covariance_term(centered, class_cov, class_cov_square, normalize, unbiased=unbiased)
    return (mean - class_mean.to(mean.dtype)).square().sum(1) + gamma * covariance_term


class GaussianAlignment(nn.Module):
    """:func:`gaussian_alignment` with targets that stay: [G, n, D] -> [G] at every call.

    The targets are buffers, so they follow ``.to(device)``, and ||class_cov||_F^2 is computed once. They are
    not in the ``state_dict``: they are data, as large as many a network, and belong to the bank they
    came from. A packed or low-rank target is kept as it is. Keep the module in float32; ``.half()``
    would round the targets too.

    Args:
        class_mean, class_cov, gamma, normalize, unbiased: as for :func:`gaussian_alignment`.

    Raises:
        ValueError: shapes do not fit.
    """

    class_mean: Tensor
    class_cov: Tensor
    class_cov_diagonal: Tensor | None
    class_cov_square: Tensor

    def __init__(
        self,
        class_mean: Tensor,
        class_cov: Covariance,
        gamma: float = 50.0,
        normalize: Normalize = "none",
        unbiased: bool = False,
    ) -> None:
        super().__init__()
        if class_mean.ndim != 2:
            raise ValueError(f"class_mean must be [G, D], got {tuple(class_mean.shape)}")
        _check_targets(class_mean.shape, class_mean, class_cov)
        self.gamma, self.normalize, self.unbiased = gamma, normalize, unbiased
        self.low_rank = isinstance(class_cov, LowRankCovariance)
        matrix, diagonal = class_cov if isinstance(class_cov, LowRankCovariance) else (class_cov, None)
        self.register_buffer("class_mean", class_mean.detach(), persistent=False)
        self.register_buffer("class_cov", matrix.detach(), persistent=False)  # or the factor of it
        self.register_buffer(
            "class_cov_diagonal", None if diagonal is None else diagonal.detach(), persistent=False
        )
        self.register_buffer("class_cov_square", square_norm(class_cov).detach(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features [G, n, D] of any float dtype -> [G]."""
        class_cov = (
            LowRankCovariance(self.class_cov, self.class_cov_diagonal) if self.low_rank else self.class_cov
        )
        return gaussian_alignment(
            features,
            self.class_mean,
            class_cov,
            self.gamma,
            normalize=self.normalize,
            unbiased=self.unbiased,
            class_cov_square=self.class_cov_square,
        )

    def extra_repr(self) -> str:
        groups, dim = self.class_mean.shape
        kind = "low rank" if self.low_rank else ("packed" if self.class_cov.ndim == 2 else "dense")
        return f"{groups} classes, {dim} features, {kind} covariance, gamma={self.gamma}"
