"""Works of every public function of fastdd_kernels, against what people use today."""

from __future__ import annotations

from ..work import Scale, Work
from . import activations, features, pairs, sets, trajectory

MODULES = (features, activations, pairs, sets, trajectory)


def works(scale: Scale) -> list[Work]:
    """All works, in the order in which they are measured."""
    return [work for module in MODULES for work in module.works(scale)]
