"""DEDA's covariance regularizer: variance hinge and off-diagonal covariance of the embeddings (eq. 7, 8)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastdd_kernels import off_diagonal_covariance, variance_hinge

from ...config import Config
from ...config.base import NotNegative
from ...teachers import Features
from ..plan import Unit
from .base import Term, Values, by_class, register_term


class Covariance(Config):
    """DEDA eq. 7 and 8 on the embeddings: variance hinge and squared off-diagonal covariance."""

    lambda_var: NotNegative = 0.2
    """weight of the variance hinge"""
    lambda_cov: NotNegative = 4.0
    """weight of the squared off-diagonal covariance"""
    eps: NotNegative = 1e-4
    """number added to the variance inside the hinge's square root; 0: the paper's formula to the letter"""
    unbiased: bool = False
    """false: covariances are divided by n; true: by n - 1"""


class CovarianceTerm(Term[Covariance, None]):
    """DEDA eq. 7 and 8 on the embeddings of each class; it has no targets."""

    configuration = Covariance
    labels: ClassVar = {"variance": "variance hinge", "covariance": "off-diagonal covariance"}
    position = 30

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


register_term("covariance", CovarianceTerm)
