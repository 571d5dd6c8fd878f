"""Cross-entropy of the teacher's logits with the classes of the images."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import Config
from ...config.base import NotNegative
from ...teachers import Features
from ..plan import Unit
from .base import Term, Values, register_term


class CrossEntropy(Config):
    """Cross-entropy of the teacher's logits with the class of each image, as a mean over the batch."""

    weight: NotNegative = 1.0
    """factor of the cross-entropy"""


class CrossEntropyTerm(Term[CrossEntropy, Tensor]):
    """Mean cross-entropy of each batch; its targets are the classes [N] of the images."""

    configuration = CrossEntropy
    labels: ClassVar = {"ce": "cross-entropy"}
    position = 0

    def targets(self, unit: Unit) -> Tensor:
        return torch.tensor([c for c, _ in unit.rows], device=self.device)

    def __call__(self, features: Features, images: Tensor, targets: Tensor) -> Values:
        _, classes, slots = self.shape
        weight = self.config.weight / (classes * slots)
        return {"ce": weight * F.cross_entropy(features.logits, targets, reduction="sum")}


register_term("ce", CrossEntropyTerm)
