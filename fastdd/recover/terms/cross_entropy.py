"""Cross-entropy of the teacher's logits with the classes of the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import CrossEntropy
from ...teachers import Features
from ..plan import Unit
from .base import Shape, Values


@dataclass
class CrossEntropyTerm:
    """Mean cross-entropy of a batch, with the class of each image."""

    config: CrossEntropy
    shape: Shape
    device: torch.device

    def targets(self, unit: Unit) -> Tensor:
        return torch.tensor([c for c, _ in unit.rows], device=self.device)

    def __call__(self, features: Features, images: Tensor, targets: Tensor) -> Values:
        weight = self.config.weight / (self.shape[1] * self.shape[2])
        return {"ce": weight * F.cross_entropy(features.logits, targets, reduction="sum")}
