"""DEDA's covariance regularizer: variance hinge and off-diagonal covariance of the embeddings (eq. 7, 8)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fastdd_kernels import off_diagonal_covariance, variance_hinge

from ...config import Covariance
from ...teachers import Features
from ..plan import Unit
from .base import Shape, Values, by_class


@dataclass
class CovarianceTerm:
    """DEDA eq. 7 and 8 on the embeddings."""

    config: Covariance
    shape: Shape

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        embedding = by_class(features.embedding, self.shape)
        hinge = variance_hinge(embedding, self.config.eps, self.config.unbiased).sum()
        off_diagonal = off_diagonal_covariance(embedding, self.config.unbiased).sum()
        return {
            "variance": self.config.lambda_var * hinge,
            "covariance": self.config.lambda_cov * off_diagonal,
        }
