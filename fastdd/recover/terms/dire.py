"""DiRe: diversity of a class's embeddings, and their match with the real ones; and its control.

    weight (r_cd CD + r_cdm CDM + r_edm EDM)                           summed over the classes of the batch
    weight sum_c || mean e(S_c) - mean e(R_c) ||^2                     mean_embedding

fastdd_kernels/dire.py has the formulas. The paper has one weight r_c for CD and CDM, and r_e for EDM. The
control pulls the mean of a class to that of all real embeddings R_c that the bank holds, without diversity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fastdd_kernels import RealEmbeddings, dire_terms, mean_distance

from ...config import All, Config, Count
from ...config.base import NotNegative
from ...runtime.seeds import generator
from ...teachers import Features
from ..plan import Unit
from .base import Needs, Term, Values, by_class, register_term
from .batch_norm import BatchNorm
from .convolution import Convolution


class DiRe(Config):
    """DiRe: weight (r_cd CD + r_cdm CDM + r_edm EDM), summed over the classes of the batch."""

    weight: NotNegative | Literal["bn"] = 1.0
    """factor of the three weights below. bn: the weight of the method's BatchNorm statistics (terms.bn or
    terms.conv), as the released weights belong to a BatchNorm weight of 1; where the method has neither, 1. A
    resolved recipe has the number"""
    r_cd: NotNegative = 0.1
    """weight of cosine diversity, CD"""
    r_cdm: NotNegative = 0.1
    """weight of cosine distribution matching, CDM"""
    r_edm: NotNegative = 0.001
    """weight of Euclidean distribution matching, EDM"""
    reading: Literal["paper", "code", "clean"] = "clean"
    """which of the three readings of the formulas in fastdd_kernels/dire.py"""
    real_per_class: Count | All = "all"
    """number of real embeddings of each class to compare with, a seeded choice; all: all that the bank
    holds, which are fewer where ``bank.embeddings`` is a number"""

    @property
    def effective_weights(self) -> tuple[float, float, float]:
        """What CD, CDM and EDM weigh in the end.

        Raises:
            ValueError: ``weight`` is bn, which becomes a number among the terms of a method.
        """
        if self.weight == "bn":
            raise ValueError("dire.weight is bn, which needs the method's other terms; give a number")
        return self.weight * self.r_cd, self.weight * self.r_cdm, self.weight * self.r_edm


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
    def beside(cls, config: DiRe, terms: Mapping[str, Config]) -> DiRe:
        if config.weight != "bn":
            return config
        weight = _batch_norm_weight(terms)
        return config.model_copy(update={"weight": 1.0 if weight is None else weight})

    @classmethod
    def remark(cls, config: DiRe, terms: Mapping[str, Config]) -> str:
        weights, weight = config.effective_weights, _batch_norm_weight(terms)
        named = zip(("CD", "CDM", "EDM"), weights, strict=True)
        told = f"DiRe's terms have the weights {', '.join(f'{each:.4g} ({name})' for name, each in named)}"
        if not weight:
            return f"{told}, and no BatchNorm statistics stand beside them"
        ratios = ", ".join(f"{each / weight:.4g}" for each in weights)
        return f"{told}; in parts of that of the BatchNorm statistics, {weight:.4g}: {ratios}"

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
    terms = dire_terms(embedding, real, reading=config.reading)
    return {
        name: weight * term.sum()
        for name, weight, term in zip(terms._fields, config.effective_weights, terms, strict=True)
    }


def _batch_norm_weight(terms: Mapping[str, Config]) -> float | None:
    """The weight of a method's BatchNorm statistics, be they matched by ``bn`` or ``conv``; None: neither
    is there."""
    for term in (terms.get("bn"), terms.get("conv")):
        if isinstance(term, BatchNorm | Convolution):
            return term.weight
    return None


register_term("dire", DiReTerm)


class MeanEmbedding(Config):
    """Squared distance of the mean embeddings of synthetic and real images, summed over the classes."""

    weight: NotNegative = 1.0
    """factor of the squared distance"""


class MeanEmbeddingTerm(Term[MeanEmbedding, Tensor]):
    """Mean embeddings; its target is the real mean [classes, 1, D] of the unit's classes."""

    configuration = MeanEmbedding
    labels: ClassVar = {"mean_embedding": "mean embedding"}
    position = 45

    @classmethod
    def needs(cls, config: MeanEmbedding, network: nn.Module) -> Needs:
        return Needs(embeddings=1)

    def targets(self, unit: Unit) -> Tensor:
        means = [self.context.bank.embeddings(c).mean(0) for c in unit.groups]
        return torch.stack(means).unsqueeze(1).to(self.device)

    def __call__(self, features: Features, images: Tensor, targets: Tensor) -> Values:
        distance = mean_distance(by_class(features.embedding, self.shape), targets)
        return {"mean_embedding": self.config.weight * distance.sum()}


register_term("mean_embedding", MeanEmbeddingTerm)
