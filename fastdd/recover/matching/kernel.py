"""Error of kernel ridge regression from the synthetic images onto real ones (KIP).

    L = 1/2 mean (K_ts (K_ss + e tr(K_ss) / n I)^-1 y_s - y_t)^2

K is the tangent kernel of a ReLU network of infinite width (fastdd_kernels/tangent.py), s are all synthetic
images and t new real ones at each step, as many of each class; labels y are one-hot minus 1 / C. Images are
flat and normalized. All of it is float64: the condition number of K_ss reaches 1 / e. Cost of a step for n
synthetic and m real images of d numbers: 2 n m d and about 100 n m (depth) operations, and n^3 / 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import kernel_ridge_loss, relu_ntk

from ...config import KernelMatch
from ..objective import Signal, Variable
from ..plan import Unit
from ..steps import Round
from ..terms.base import Values
from .real import RealImages


class KernelSignal(Signal):
    """Kernel ridge regression from all synthetic images onto real ones."""

    def __init__(self, config: KernelMatch, *, real: RealImages) -> None:
        self.config, self.real = config, real

    def start(self, unit: Unit, steps: int) -> None:
        self.labels = self._labels(torch.tensor([c for c, _ in unit.rows]))
        self.accuracy = torch.tensor(float("nan"))

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        images = variable.images()
        support = images.detach().double().flatten(1).requires_grad_()
        target, labels = self._target(step)
        depth = self.config.depth
        loss, predictions = kernel_ridge_loss(
            relu_ntk(support, depth=depth),
            relu_ntk(target, support, depth=depth),
            self.labels,
            labels,
            ridge=self.config.ridge,
        )
        (gradient,) = torch.autograd.grad(loss, support)
        images.backward(gradient.view_as(images).to(images.dtype))
        self.accuracy = (predictions.argmax(1) == labels.argmax(1)).double().mean()
        return {"kernel": loss.detach()}

    def _target(self, step: int) -> tuple[Tensor, Tensor]:
        """Real images of a step, float64 [m, d], and their labels."""
        each = max(1, self.config.target // self.real.classes)
        drawn = [self.real.rows(c, each, step) for c in range(self.real.classes)]
        rows = torch.cat(drawn)
        return self.real.take(rows).double().flatten(1), self._labels(self.real.labels(rows))

    def _labels(self, classes: Tensor) -> Tensor:
        """One-hot minus 1 / C, float64 [N, C]."""
        one_hot = F.one_hot(classes.to(self.real.images.device), self.real.classes)
        return one_hot.double() - 1 / self.real.classes

    def state(self) -> dict[str, Tensor]:
        return {"accuracy": self.accuracy}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.accuracy = state["accuracy"]

    def learned(self) -> dict[str, float]:
        return {"accuracy of kernel regression": float(self.accuracy)}
