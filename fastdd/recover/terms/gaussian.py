"""Terms of a class: Gaussian alignment and covariance regularizer (DEDA), diversity and matching (DiRe)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastdd_kernels import GaussianAlignment

from ...bank import Bank
from ...config import Gaussian
from ...teachers import Features, Taps, layer_names
from ..plan import Unit
from .base import Shape, Values, by_class


def aligned_layers(config: Gaussian, network: nn.Module) -> list[str]:
    """Layers of DEDA's alignment: all of the kind but the last, whose place the embedding takes (l < L)."""
    return list(layer_names(network, config.layers))[:-1]


class GaussianTerm:
    """DEDA eq. 6 over the aligned layers."""

    def __init__(self, config: Gaussian, shape: Shape, taps: Taps, bank: Bank, device: torch.device) -> None:
        self.config, self.shape, self.bank, self.device = config, shape, bank, device
        self.layers = aligned_layers(config, taps.network)

    def targets(self, unit: Unit) -> list[GaussianAlignment]:
        config = self.config
        return [
            GaussianAlignment(
                *self.bank.gaussian(layer, unit.groups), config.gamma, config.cov_norm, config.cov_unbiased
            ).to(self.device)
            for layer in self.layers
        ]

    def __call__(self, features: Features, images: Tensor, targets: list[GaussianAlignment]) -> Values:
        values = [
            align(by_class(features.pooled[layer], self.shape)).sum()
            for layer, align in zip(self.layers, targets, strict=True)
        ]
        return {"gaussian": self.config.weight * torch.stack(values).sum()}
