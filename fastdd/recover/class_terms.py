"""Terms of a class: Gaussian alignment and covariance regulariser (DEDA), diversity and matching (DiRe)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastdd_kernels import (
    GaussianAlignment,
    RealEmbeddings,
    dire_terms,
    off_diagonal_covariance,
    variance_hinge,
)

from .. import recipe
from ..bank import Bank
from ..seeds import generator
from ..teachers import Features, Taps, layer_names
from .objective import Shape, Values, by_class
from .plan import Unit


def aligned_layers(config: recipe.Gaussian, network: nn.Module) -> list[str]:
    """Layers of DEDA's alignment: all of the kind but the last, whose place the embedding takes (l < L)."""
    return list(layer_names(network, config.layers))[:-1]


class GaussianTerm:
    """DEDA eq. 6 over the aligned layers."""

    def __init__(self, config: recipe.Gaussian, shape: Shape, taps: Taps, bank: Bank, device: torch.device) -> None:
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


@dataclass
class CovarianceTerm:
    """DEDA eq. 7 and 8 on the embeddings."""

    config: recipe.Covariance
    shape: Shape

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        embedding = by_class(features.embedding, self.shape)
        hinge = variance_hinge(embedding, self.config.eps, self.config.unbiased).sum()
        off_diagonal = off_diagonal_covariance(embedding, self.config.unbiased).sum()
        return {"variance": self.config.lambda_var * hinge, "covariance": self.config.lambda_cov * off_diagonal}


@dataclass
class DiReTerm:
    """DiRe on the embeddings, against all real ones of a class or a seeded choice of them."""

    config: recipe.DiRe
    shape: Shape
    bank: Bank
    seed: int
    device: torch.device

    def targets(self, unit: Unit) -> RealEmbeddings:
        # Padded alike for all units, so that the step is compiled once.
        longest = max(self.bank.manifest["embeddings"])
        longest = longest if self.config.real_per_class == "all" else min(longest, self.config.real_per_class)
        return RealEmbeddings.prepare([self._real(c).to(self.device) for c in unit.groups], padded_to=longest)

    def _real(self, c: int) -> Tensor:
        embeddings, wanted = self.bank.embeddings(c), self.config.real_per_class
        if wanted == "all" or wanted >= len(embeddings):
            return embeddings
        return embeddings[torch.randperm(len(embeddings), generator=generator(self.seed, "dire", c))[:wanted]]

    def __call__(self, features: Features, images: Tensor, targets: RealEmbeddings) -> Values:
        config = self.config
        cd, cdm, edm = dire_terms(by_class(features.embedding, self.shape), targets, reading=config.reading)
        return {"cd": config.r_cos * cd.sum(), "cdm": config.r_cos * cdm.sum(), "edm": config.r_euc * edm.sum()}
