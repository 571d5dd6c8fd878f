"""The one optimization loop: augment, frozen teacher with taps, terms, gradient to the images, Adam, clip.

Adam moves the pixels of the images, or only the low frequencies of formations, or an offset that the images of a batch
share (INFER): the classes below. steps.py says which images and which teachers take part in a step.

The random draws of all steps are made before the loop, from each batch's own generator; inside it there is
no host synchronization but the reading of the losses every ``log_every`` steps. The image kept is the last
iterate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..config import Formation, Method, Offset, Recover
from ..distilled.formation import LowFrequencies
from ..errors import InputError
from ..runtime.progress import Bar
from ..teachers import Teacher
from .objective import Objective, draws
from .plan import Unit
from .steps import rounds_of, teachers_of_steps
from .terms.base import Shape, Values

Losses = list[dict[str, float]]
"""every log_every steps: the step and each term, weighted, as a mean over the unit's batches"""


class UnitError(InputError):
    """The images or a term of one unit are no numbers any more; other units are not touched by that."""


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


def cosine(lr: float, step: int, steps: int) -> float:
    """Learning rate at a 0-based step: lr (1 + cos(pi step / steps)) / 2, no warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimize(
    images: Tensor,
    unit: Unit,
    method: Method,
    config: Recover,
    teacher: Teacher,
    objectives: Callable[[Shape], Sequence[Objective]],
    seed: int,
    bar: Bar,
) -> tuple[Tensor, Losses]:
    """Optimize the images of one unit.

    Args:
        images: [N, C, H, W] initial images, normalized, in the order of ``unit.rows``.
        teacher: whose normalization the images are in.
        objectives: those for units of a shape, one a teacher.

    Returns:
        (images, losses): the last iterate, normalized and inside the box of valid colors.

    Raises:
        UnitError: a term or an image became NaN or infinite; the message names step and term.
    """
    variable = _variable(images, unit, method, teacher)
    augmentation = draws(method.augment, unit, method.steps, (images.shape[2], images.shape[3]), seed)
    augmentation = None if augmentation is None else augmentation.to(images.device)
    optimizer = torch.optim.Adam([variable.free], lr=method.lr, betas=method.betas)
    losses: Losses = []
    of_steps: list[list[int]] = []
    for active in rounds_of(method, unit):
        rows = None if active.rows is None else active.rows.to(images.device)
        ensemble = objectives(active.unit.shape)
        targets = [objective.targets(active.unit) for objective in ensemble]
        of_steps = of_steps or teachers_of_steps(method, unit, len(ensemble), seed)
        for step in active.steps:
            drawn = None if augmentation is None else augmentation[step]
            if drawn is not None and rows is not None and method.augment.per_image:
                drawn = drawn[rows]
            optimizer.param_groups[0]["lr"] = cosine(method.lr, step, method.steps)
            optimizer.zero_grad()
            values = _backward(variable, rows, drawn, [(ensemble[i], targets[i]) for i in of_steps[step]])
            variable.step(optimizer)
            if step % config.log_every == 0 or step == method.steps - 1:
                numbers = _read(values, step, unit)
                losses.append({"step": step, **numbers})
                bar.advance(0, note=f"loss {sum(numbers.values()):.3f}")
            bar.advance(len(active.unit.rows))
    if not variable.free.isfinite().all():
        raise UnitError(
            f"images of unit {unit.index} are not finite after step {method.steps - 1}; lower method.lr"
        )
    return variable.result(), losses


def _variable(images: Tensor, unit: Unit, method: Method, teacher: Teacher) -> Variable:
    bounds = teacher.bounds(images.device)
    if method.formation is not None:
        return Formed(images, bounds, method.formation)
    return Pixels(images, bounds) if method.offset is None else Offsets(images, bounds, unit, method.offset)


def _backward(
    variable: Variable,
    rows: Tensor | None,
    drawn: Tensor | None,
    active: Sequence[tuple[Objective, list[object]]],
) -> Values:
    """Accumulate the gradient of the mean loss of some objectives, one after the other; their mean values."""
    together: Values = {}
    for objective, targets in active:
        values = objective(variable.images(rows), drawn, targets)
        if len(active) > 1:
            values = {name: value / len(active) for name, value in values.items()}
        torch.stack(list(values.values())).sum().backward()
        for name, value in values.items():
            together[name] = together[name] + value.detach() if name in together else value.detach()
    return together


def _read(values: dict[str, Tensor], step: int, unit: Unit) -> dict[str, float]:
    """The terms on the host (the loop's only synchronization), checked to be finite."""
    numbers = dict(zip(values, (torch.stack(list(values.values())) / unit.shape[0]).tolist(), strict=True))
    if bad := [name for name, number in numbers.items() if not math.isfinite(number)]:
        raise UnitError(
            f"term {bad[0]!r} is {numbers[bad[0]]} at step {step} of unit {unit.index}; lower method.lr or the "
            "term's weight"
        )
    return numbers
