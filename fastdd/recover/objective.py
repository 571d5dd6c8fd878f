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
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import recipe
from ..precision import autocast
from ..teachers import Features, Taps
from .augment import augmented
from .plan import Unit

Shape = tuple[int, int, int]
"""batches, classes a batch, slots a batch"""
Values = dict[str, Tensor]
"""named, weighted values, each summed over the unit"""


class Term(Protocol):
    """One part of the objective, for units of one shape."""

    def targets(self, unit: Unit) -> Any:
        """What the unit's classes ask for: a nest of tensors on the teacher's device, of one shape for all units."""

    def __call__(self, features: Features, images: Tensor, targets: Any) -> Values:
        """Its values for the features of the augmented images; traced by the compiler."""


@dataclass
class Objective:
    """The terms through one teacher, for units of one shape; a call gives the named values.

    Attributes:
        terms, taps: what is computed, and the frozen teacher.
        config: precision, and whether to compile.
        pad: of the images before they are cropped.
    """

    terms: Sequence[Term]
    taps: Taps
    config: recipe.Recover
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


def by_class(x: Tensor, shape: Shape) -> Tensor:
    """[N, D] -> [classes in all batches, slots, D]"""
    return x.view(-1, shape[2], x.shape[1])
