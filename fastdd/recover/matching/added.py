"""What is added to a matching signal: terms through a teacher, or DiRe through the network of a step.

The matching signal comes first: it has brought the network to the step and computed the real embeddings. The
gradient of what is added may have a set share of the norm of the matching's.
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
from ..terms.base import Values, add_values
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
            add_values(total, values)
        images.backward(torch.cat(gradients))
        return total

    def _real(self, c: int) -> Tensor:
        """Real embeddings of a class; they are in random order, so the first ones are a choice."""
        embeddings, wanted = self.step.real_embeddings[c], self.config.real_per_class
        return embeddings if wanted == "all" else embeddings[:wanted]


class Shared(Signal):
    """A matching signal and added terms.

    With a share, the gradient of the terms is scaled to that share of the matching's norm, batch by batch.
    The weights are measured at the first step and kept. They belong to batches, so units of any size give the
    same images. Without a share the terms have the weights that they say.
    """

    def __init__(self, main: Signal, added: Signal, share: float | None) -> None:
        self.main, self.added, self.share = main, added, share

    def start(self, unit: Unit, steps: int) -> None:
        self.main.start(unit, steps)
        self.added.start(unit, steps)
        self.batches, self.weights = len(unit.batches), torch.empty(0)

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        values = self.main(variable, part, step)
        if self.share is None:
            return values | self.added(variable, part, step)
        main = variable.free.grad
        assert main is not None  # a signal adds a gradient
        variable.free.grad = None
        found = self.added(variable, part, step)
        added = variable.free.grad
        assert added is not None
        if not len(self.weights):
            norms = added.reshape(self.batches, -1).norm(dim=1)
            wanted = self.share * main.reshape(self.batches, -1).norm(dim=1)
            self.weights = torch.where(norms > 0, wanted / norms, 0.0)
        each = self.weights.repeat_interleave(len(added) // self.batches).view(-1, *[1] * (added.ndim - 1))
        variable.free.grad = main + each * added
        # Values are sums over the unit, and the weights of its batches differ: the logged value is weighted
        # by their mean.
        return values | {name: self.weights.mean() * value for name, value in found.items()}

    def state(self) -> dict[str, Tensor]:
        return {"weights": self.weights} | {f"main/{name}": t for name, t in self.main.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.weights = state["weights"]
        self.main.restore(
            {name.removeprefix("main/"): t for name, t in state.items() if name.startswith("main/")}
        )

    def learned(self) -> dict[str, float]:
        if self.share is None:
            return self.main.learned()
        weight = float(self.weights.mean())
        measured = {"weight of the added terms": weight, "share of the matching's gradient": self.share}
        return self.main.learned() | measured
