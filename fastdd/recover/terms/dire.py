"""DiRe: diversity of a class's embeddings, and their match with the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastdd_kernels import RealEmbeddings, dire_terms

from ...bank import Bank
from ...config import DiRe
from ...runtime.seeds import generator
from ...teachers import Features
from ..plan import Unit
from .base import Shape, Values, by_class


@dataclass
class DiReTerm:
    """DiRe on the embeddings, against all real ones of a class or a seeded choice of them."""

    config: DiRe
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
        return {
            "cd": config.r_cos * cd.sum(),
            "cdm": config.r_cos * cdm.sum(),
            "edm": config.r_euc * edm.sum(),
        }
