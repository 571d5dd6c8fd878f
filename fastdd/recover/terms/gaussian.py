"""DEDA's Gaussian alignment of each class, on the spatial means of some layers (eq. 6).

sum_l ||mean_l - class mean_l||_2^2 + gamma ||Cov_l - class Cov_l||_F^2
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fastdd_kernels import GaussianAlignment, unpack_symmetric

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
    gamma: NotNegative = 50.0
    layers: Layers = "blocks"
    """either a kind of layers: all but the last are aligned (l < L), as the embedding takes its place; or a
    list of module paths, with * for one part of a path and ** for any number, such as ["features.*"]: all are
    aligned"""
    cov_norm: Literal["none", "dim"] = "none"
    """divisor of the squared covariance difference. none: 1; dim: the layer's width"""
    cov_unbiased: bool = False
    """false: covariances are divided by n; true: by n - 1"""


class GaussianTerm(Term[Gaussian, list[GaussianAlignment]]):
    """Gaussian alignment; its targets are, for each layer, the Gaussians of the unit's classes."""

    configuration = Gaussian
    labels: ClassVar = {"gaussian": "Gaussian alignment"}
    position = 20

    def __init__(self, config: Gaussian, context: Context) -> None:
        super().__init__(config, context)
        self.layers = aligned_layers(config, context.network)

    @classmethod
    def needs(cls, config: Gaussian, network: nn.Module) -> Needs:
        layers = tuple(aligned_layers(config, network))
        return Needs(pooled=layers, gaussians=layers)

    def targets(self, unit: Unit) -> list[GaussianAlignment]:
        config, found, room = self.config, [], WRITTEN_OUT if self.device.type == "cuda" else 0
        for layer in self.layers:
            mean, covariance = self.context.bank.gaussian(layer, unit.groups)
            size = 4 * mean.shape[0] * mean.shape[1] ** 2
            if isinstance(covariance, Tensor) and covariance.ndim == 2 and size <= room:
                covariance, room = unpack_symmetric(covariance.to(self.device).float()), room - size
            target = GaussianAlignment(
                mean, covariance, config.gamma, normalize=config.cov_norm, unbiased=config.cov_unbiased
            )
            found.append(target.to(self.device))
        return found

    def __call__(self, features: Features, images: Tensor, targets: list[GaussianAlignment]) -> Values:
        values = [
            align(by_class(features.pooled[layer], self.shape)).sum()
            for layer, align in zip(self.layers, targets, strict=True)
        ]
        return {"gaussian": self.config.weight * torch.stack(values).sum()}


def aligned_layers(config: Gaussian, network: nn.Module) -> list[str]:
    """Names of the aligned layers: all but the last of a kind, as the embedding takes its place (l < L).

    Raises:
        InputError: the network has no such layers, or none but the last.
    """
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
