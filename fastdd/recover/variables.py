"""What Adam moves: the pixels of the images, or of formations their low frequencies, or an offset that the images of a
batch share (INFER).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..config import Formation, Offset
from ..distilled.formation import LowFrequencies
from .plan import Unit

Bounds = tuple[Tensor, Tensor]
"""normalized black and white, each [C, 1, 1]"""


class Variable(Protocol):
    """Images of a unit [N, C, H, W], normalized, as a function of a free tensor."""

    free: Tensor

    def images(self, rows: Tensor | None) -> Tensor:
        """Those in some rows of the unit, or all."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move by the gradient that has been accumulated."""

    def result(self) -> Tensor:
        """All images, detached, inside the box of valid colors."""


class Pixels:
    """The images themselves, clipped after each step."""

    def __init__(self, images: Tensor, bounds: Bounds) -> None:
        self.free, self.bounds = images.contiguous(memory_format=torch.channels_last).requires_grad_(), bounds

    def images(self, rows: Tensor | None) -> Tensor:
        return self.free if rows is None else self.free[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
        with torch.no_grad():
            self.free.clamp_(*self.bounds)

    def result(self) -> Tensor:
        return self.free.detach()


class Formed(Pixels):
    """Images of formations, put back to the frequencies that those keep at the start and after each step."""

    def __init__(self, images: Tensor, bounds: Bounds, formation: Formation) -> None:
        super().__init__(images, bounds)
        self.keep = LowFrequencies(formation, images)
        self._put_back()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        super().step(optimizer)
        self._put_back()

    @torch.no_grad()
    def _put_back(self) -> None:
        black, white = self.bounds
        shown = (self.free - black) / (white - black)
        self.free.copy_(black + (white - black) * self.keep(shown))


class Offsets:
    """An offset [C, H, W] for each batch of a unit, from zeros.

    The released code clips a copy, so that neither the offset nor what the teacher sees is clipped; and it keeps the
    images of the last forward pass, which the last step comes after (``before_last_step``).
    """

    def __init__(self, images: Tensor, bounds: Bounds, unit: Unit, config: Offset) -> None:
        self.real, self.bounds, self.config = images, bounds, config
        self.free = torch.zeros(len(unit.batches), *images.shape[1:], device=images.device).requires_grad_()
        self.before = torch.zeros_like(self.free)

    def _moved(self, offset: Tensor) -> Tensor:
        return self.real + offset.repeat_interleave(len(self.real) // len(offset), dim=0)

    def images(self, rows: Tensor | None) -> Tensor:
        images = self._moved(self.free)
        return images if rows is None else images[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.copy_(self.free.detach())
        optimizer.step()

    def result(self) -> Tensor:
        return self._moved(self.before if self.config.before_last_step else self.free.detach()).clamp(
            *self.bounds
        )
