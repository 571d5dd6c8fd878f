"""DiRe on the embeddings of a step's own network: synthetic images against the real ones of the step.

The matching signal has brought the network to the step and computed the real embeddings before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fastdd_kernels import RealEmbeddings

from ..objective import Signal, Variable
from ..plan import Unit
from ..steps import Round
from ..terms.base import Values
from ..terms.dire import DiRe, dire_values
from .features import CHUNK, ranges


@runtime_checkable
class StepEmbeddings(Protocol):
    """What a matching signal offers of the network of its present step.

    Attributes:
        real_embeddings: class -> embeddings [m, D] of the real images of the step.
    """

    real_embeddings: Mapping[int, Tensor]

    def embedding(self, images: Tensor, groups: range) -> Tensor:
        """Embeddings [N, D] of synthetic images [N, C, H, W] of these groups of the unit, differentiable."""


class NetworkDiRe(Signal):
    """DiRe through the network of a step."""

    def __init__(self, config: DiRe, step: StepEmbeddings) -> None:
        self.config, self.step = config, step

    def start(self, unit: Unit, steps: int) -> None:
        self.classes, self.slots = unit.groups, unit.shape[2]

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        images = variable.images()
        gradients, total = [], dict[str, Tensor]()
        for groups in ranges(len(self.classes), max(1, CHUNK[images.device.type] // self.slots)):
            rows = slice(groups.start * self.slots, groups.stop * self.slots)
            chunk = images[rows].detach().requires_grad_()
            embedding = self.step.embedding(chunk, groups)
            real = RealEmbeddings.prepare([self._real(self.classes[group]) for group in groups])
            values = dire_values(self.config, embedding.view(len(groups), self.slots, -1), real)
            loss = torch.stack(list(values.values())).sum()
            gradients.append(torch.autograd.grad(loss, chunk)[0])
            for name, value in values.items():
                total[name] = total[name] + value.detach() if name in total else value.detach()
        images.backward(torch.cat(gradients))
        return total

    def _real(self, c: int) -> Tensor:
        """Real embeddings of a class; they are in random order, so the first ones are a choice."""
        embeddings, wanted = self.step.real_embeddings[c], self.config.real_per_class
        return embeddings if wanted == "all" else embeddings[:wanted]
