"""The objective of one step: terms of the features of augmented images, and their targets.

A *term* is declared once for all units of one shape, and its *targets* (labels, statistics of the classes in the unit)
are read anew for each unit and passed in as tensors. So a step is compiled once for a shape, not once for a unit.

Batch terms (cross-entropy, BatchNorm) give one value for each batch of the unit, class terms (Gaussian alignment,
covariance, DiRe) one for each class in each batch. The loss of a unit is their sum, so every batch gets the gradient
it would get alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from ..config import Recover
from ..runtime.precision import autocast
from ..teachers import Taps
from .augment import augmented
from .plan import Unit
from .terms.base import AnyTerm, Values


@dataclass
class Objective:
    """The terms through one teacher, for units of one shape; a call gives the named values.

    Attributes:
        terms, taps: what is computed, and the frozen teacher.
        config: precision, and whether to compile.
        pad: of the images before they are cropped.
    """

    terms: Sequence[AnyTerm]
    taps: Taps
    config: Recover
    pad: int = 0
    step: Callable[..., Values] = field(init=False)

    def __post_init__(self) -> None:
        self.step = self._plain
        if self.config.compile is True:
            # Graphs are kept by code object, few of each: an objective of another shape gets a code object of its own.
            own = FunctionType(Objective._plain.__code__.replace(), globals())
            self.step = torch.compile(MethodType(own, self), fullgraph=True, dynamic=False)

    def targets(self, unit: Unit) -> list[Any]:
        """Of all terms, for one unit."""
        return [term.targets(unit) for term in self.terms]

    def __call__(self, images: Tensor, draws: Tensor | None, targets: list[Any]) -> Values:
        """Values of images [N, C, H, W], augmented by one step's draws (see augment.py)."""
        return self.step(images, draws, targets)

    def _plain(self, images: Tensor, draws: Tensor | None, targets: list[Any]) -> Values:
        images = augmented(images, draws, self.pad)
        with autocast(images.device, self.config.precision):
            features = self.taps(images.contiguous(memory_format=torch.channels_last))
        values: Values = {}
        for term, wanted in zip(self.terms, targets, strict=True):
            values |= term(features, images, wanted)
        return values
