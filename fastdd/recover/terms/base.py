"""What a term is."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ...teachers import Features
from ..plan import Unit

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


def by_class(x: Tensor, shape: Shape) -> Tensor:
    """[N, D] -> [classes in all batches, slots, D]"""
    return x.view(-1, shape[2], x.shape[1])
