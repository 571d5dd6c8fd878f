"""DiRe: diversity of a class's embeddings, and their match with the real ones.

r_cos (CD + CDM) + r_euc EDM        summed over the classes of the batch; fastdd_kernels/dire.py has the
formulas
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fastdd_kernels import RealEmbeddings, dire_terms

from ...config import All, Config, Count
from ...config.base import NotNegative
from ...runtime.seeds import generator
from ...teachers import Features
from ..plan import Unit
from .base import Needs, Term, Values, by_class, register_term


class DiRe(Config):
    """DiRe: r_cos (CD + CDM) + r_euc EDM, summed over the classes of the batch."""

    r_cos: NotNegative = 0.1
    """weight of cosine diversity and cosine distribution matching"""
    r_euc: NotNegative = 0.001
    """weight of Euclidean distribution matching"""
    reading: Literal["paper", "code", "clean"] = "clean"
    """which of the three readings of the formulas in fastdd_kernels/dire.py"""
    real_per_class: Count | All = "all"
    """number of real embeddings of each class to compare with, a seeded choice; all: all that the bank
    holds, which are fewer where ``bank.embeddings`` is a number"""


class DiReTerm(Term[DiRe, RealEmbeddings]):
    """DiRe on the embeddings, against all real ones of a class or a seeded choice of them."""

    configuration = DiRe
    labels: ClassVar = {
        "cd": "cosine diversity",
        "cdm": "cosine distribution matching",
        "edm": "Euclidean distribution matching",
    }
    position = 40

    @classmethod
    def needs(cls, config: DiRe, network: nn.Module) -> Needs:
        return Needs(embeddings=1 if config.real_per_class == "all" else config.real_per_class)

    def targets(self, unit: Unit) -> RealEmbeddings:
        # The same padding for all units, so that the step is compiled once.
        longest = max(self.context.bank.manifest["embeddings"])
        wanted = self.config.real_per_class
        longest = longest if wanted == "all" else min(longest, wanted)
        real = [self._real(c).to(self.device) for c in unit.groups]
        return RealEmbeddings.prepare(real, padded_to=longest)

    def _real(self, c: int) -> Tensor:
        embeddings, wanted = self.context.bank.embeddings(c), self.config.real_per_class
        if wanted == "all" or wanted >= len(embeddings):
            return embeddings
        order = torch.randperm(len(embeddings), generator=generator(self.context.seed, "dire", c))
        return embeddings[order[:wanted]]

    def __call__(self, features: Features, images: Tensor, targets: RealEmbeddings) -> Values:
        return dire_values(self.config, by_class(features.embedding, self.shape), targets)


def dire_values(config: DiRe, embedding: Tensor, real: RealEmbeddings) -> Values:
    """The weighted values for embeddings [classes, slots, D] of synthetic images against real ones."""
    cd, cdm, edm = dire_terms(embedding, real, reading=config.reading)
    return {"cd": config.r_cos * cd.sum(), "cdm": config.r_cos * cdm.sum(), "edm": config.r_euc * edm.sum()}


register_term("dire", DiReTerm)
