"""The mean embedding of each class: the pull to the class mean alone, without diversity.

    weight sum_c || mean e(S_c) - mean e(R_c) ||^2

It is the control of DiRe, which also pulls the embeddings of a class to those of the real images. R_c are all
real embeddings that the bank holds.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fastdd_kernels import mean_distance

from ...config import Config
from ...config.base import NotNegative
from ...teachers import Features
from ..plan import Unit
from .base import Needs, Term, Values, by_class, register_term


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
