"""A term for fastdd in a package of its own; pyproject.toml says under which name fastdd finds it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastdd.config import Config
from fastdd.recover import Term, Unit
from fastdd.teachers import Features


class L2(Config):
    """The section ``terms.l2`` of a recipe."""

    weight: float = 0.01
    """weight of the sum over images"""


class L2Term(Term[L2, None]):
    """Mean square of the normalized pixels, summed over images: DeepInversion's prior (CVPR 2020)."""

    configuration = L2
    labels: ClassVar = {"l2": "mean square of pixels"}

    def targets(self, unit: Unit) -> None:
        """It compares with nothing."""

    def __call__(self, features: Features, images: Tensor, targets: None) -> dict[str, Tensor]:
        return {"l2": self.config.weight * images.square().mean((1, 2, 3)).sum()}
