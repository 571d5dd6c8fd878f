"""DEDA's terms of each class: Gaussian alignment (eq. 6), and the covariance regularizer (eq. 7, 8).

sum_l ||mean_l - class mean_l||_2^2 + gamma ||Cov_l - class Cov_l||_F^2

The alignment is on the spatial means of some layers. The regularizer, a variance hinge and the off-diagonal
covariance, is on the embeddings.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastdd_kernels import (
    GaussianAlignment,
    LowRankCovariance,
    off_diagonal_covariance,
    unpack_symmetric,
    variance_hinge,
)

from ...config import Config, Layers
from ...config.base import NotNegative
from ...errors import InputError
from ...teachers import Features, layer_names, working_layers
from ..plan import Unit
from .base import Context, Needs, Term, Values, by_class, register_term

WRITTEN_OUT = 8 << 30
"""bytes of a unit's covariances that a GPU keeps as whole matrices; others are unpacked in every step"""


class Gaussian(Config):
    """DEDA eq. 6: sum over layers of ||mean - class mean||^2 + gamma ||Cov - class Cov||_F^2."""

    weight: NotNegative = 1.0
    """factor of the sum"""
    gamma: NotNegative = 50.0
    """factor of the covariance differences in the sum; 0: means alone are matched"""
    layers: Layers = "blocks"
    """either a kind of layers: all but the last are aligned (l < L), as the embedding takes its place; or a
    list of module paths, with * for one part of a path and ** for any number, such as ["features.*"]: all are
    aligned"""
    cov_norm: Literal["none", "dim"] = "none"
    """divisor of the squared covariance difference. none: 1; dim: the layer's width"""
    cov_unbiased: bool = False
    """false: covariances are divided by n; true: by n - 1"""


class _Target(NamedTuple):
    """The Gaussians of some classes in one layer: its mean and covariance, as the bank gives them."""

    layer: str
    mean: Tensor
    covariance: Tensor | LowRankCovariance


Aligned = tuple[list[str], GaussianAlignment]
"""layers of one width, and the Gaussians of the unit's classes in them, layer after layer"""


class GaussianTerm(Term[Gaussian, list[Aligned]]):
    """Gaussian alignment; its targets are the Gaussians of the unit's classes in each layer.

    Attributes:
        together: whether layers of one width are aligned as one, so that on a GPU they share launches.
    """

    configuration = Gaussian
    labels: ClassVar = {"gaussian": "Gaussian alignment"}
    position = 20

    def __init__(self, config: Gaussian, context: Context) -> None:
        super().__init__(config, context)
        self.layers = aligned_layers(config, context.network)
        self.together = self.device.type == "cuda"

    @classmethod
    def needs(cls, config: Gaussian, network: nn.Module) -> Needs:
        layers = tuple(aligned_layers(config, network))
        return Needs(pooled=layers, gaussians=layers)

    def targets(self, unit: Unit) -> list[Aligned]:
        room, found = WRITTEN_OUT if self.device.type == "cuda" else 0, dict[object, list[_Target]]()
        for layer in self.layers:
            mean, covariance = self.context.bank.gaussian(layer, unit.groups)
            size = 4 * mean.shape[0] * mean.shape[1] ** 2
            if isinstance(covariance, Tensor) and covariance.ndim == 2 and size <= room:
                covariance, room = unpack_symmetric(covariance.to(self.device).float()), room - size
            # Low-rank forms may differ in rank from layer to layer.
            key = (
                (mean.shape, covariance.shape) if self.together and isinstance(covariance, Tensor) else layer
            )
            found.setdefault(key, []).append(_Target(layer, mean, covariance))
        return [self._aligned(same) for same in found.values()]

    def _aligned(self, same: list[_Target]) -> Aligned:
        config, (_, mean, covariance) = self.config, same[0]
        if len(same) > 1:
            mean = torch.cat([target.mean for target in same])
            covariance = torch.cat([t.covariance for t in same if isinstance(t.covariance, Tensor)])
        alignment = GaussianAlignment(
            mean, covariance, config.gamma, normalize=config.cov_norm, unbiased=config.cov_unbiased
        )
        return [target.layer for target in same], alignment.to(self.device)

    def __call__(self, features: Features, images: Tensor, targets: list[Aligned]) -> Values:
        values = []
        for layers, align in targets:
            rows = [by_class(features.pooled[layer], self.shape) for layer in layers]
            values.append(align(rows[0] if len(rows) == 1 else torch.cat(rows)).sum())
        return {"gaussian": self.config.weight * torch.stack(values).sum()}


def aligned_layers(config: Gaussian, network: nn.Module) -> list[str]:
    """Names of the aligned layers: all but the last of a kind, as the embedding takes its place (l < L)."""
    names = list(layer_names(network, config.layers))
    if not isinstance(config.layers, str):
        return names
    if len(names) == 1:
        raise InputError(
            f"{type(network).__name__} has one layer of the kind {config.layers}, and the last of a kind "
            f"is not aligned; choose module paths, such as {working_layers(network)}, or another network"
        )
    return names[:-1]


register_term("gaussian", GaussianTerm)


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
