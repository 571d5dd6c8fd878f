"""The optimization loop: augment, frozen teacher with taps, terms, gradient to the images, Adam, clip.

Adam moves the pixels of the images, or only the low frequencies of formations, or an offset that the images
of a batch share (INFER); each is a ``Variable``. steps.py says which images and which teachers take part in a
step.

The random draws of all steps are made before the loop, from a generator for each batch. Inside the loop the
host waits for the device only every ``log_every`` steps, to read the losses. The last iterate is kept.
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
"""one entry every ``log_every`` steps: the step, and each weighted value as a mean over the unit's batches"""


class UnitError(InputError):
    """The images or a term of one unit became NaN or infinite; other units are unaffected."""


Bounds = tuple[Tensor, Tensor]
"""normalized black and white, each [C, 1, 1]"""


class Variable(Protocol):
    """The normalized images [N, C, H, W] of a unit as a function of ``free``, the tensor that Adam moves."""

    free: Tensor

    def images(self, rows: Tensor | None) -> Tensor:
        """The images in these rows of the unit; None: all of them."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move ``free`` by the accumulated gradient."""

    def result(self) -> Tensor:
        """All images, detached and clipped to valid colors."""


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
    """Images of formations, reduced to the frequencies that are stored, at the start and after each step."""

    def __init__(self, images: Tensor, bounds: Bounds, formation: Formation) -> None:
        super().__init__(images, bounds)
        self.low_frequencies = LowFrequencies(formation, images)
        self._reduce()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        super().step(optimizer)
        self._reduce()

    @torch.no_grad()
    def _reduce(self) -> None:
        black, white = self.bounds
        shown = (self.free - black) / (white - black)
        self.free.copy_(black + (white - black) * self.low_frequencies(shown))


class Offsets:
    """INFER: real images plus an offset [C, H, W] for each batch of a unit, which starts at zero.

    As in the released code, the images are clipped only at the end: neither the offset nor what the teacher
    sees is clipped. The released code also keeps the offset that the last step started from
    (``before_last_step``).
    """

    def __init__(self, images: Tensor, bounds: Bounds, unit: Unit, config: Offset) -> None:
        self.start, self.bounds, self.config = images, bounds, config
        self.free = torch.zeros(len(unit.batches), *images.shape[1:], device=images.device).requires_grad_()
        self.before = torch.zeros_like(self.free)

    def _moved(self, offset: Tensor) -> Tensor:
        return self.start + offset.repeat_interleave(len(self.start) // len(offset), dim=0)

    def images(self, rows: Tensor | None) -> Tensor:
        images = self._moved(self.free)
        return images if rows is None else images[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.copy_(self.free.detach())
        optimizer.step()

    def result(self) -> Tensor:
        offset = self.before if self.config.before_last_step else self.free.detach()
        return self._moved(offset).clamp(*self.bounds)


def cosine(lr: float, step: int, steps: int) -> float:
    """The learning rate at a 0-based step: lr (1 + cos(pi step / steps)) / 2, without warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimize(
    images: Tensor,
    unit: Unit,
    method: Method,
    *,
    config: Recover,
    teacher: Teacher,
    objectives: Callable[[Shape], Sequence[Objective]],
    seed: int,
    bar: Bar,
) -> tuple[Tensor, Losses]:
    """Optimize the images of one unit.

    Args:
        images: [N, C, H, W] normalized initial images, in the order of ``unit.rows``.
        unit: the unit.
        method: what is optimized.
        config: the recover section of the recipe.
        teacher: the teacher whose normalization the images have.
        objectives: shape of units -> an objective for each teacher.
        seed: the run's seed.
        bar: progress, in images times steps.

    Returns:
        (images, losses): the last iterate, normalized and clipped to valid colors, and the log.

    Raises:
        UnitError: a term or an image became NaN or infinite; the message names the step and the term.
    """
    variable = _variable(images, unit, method, teacher)
    size = images.shape[2], images.shape[3]
    augmentation = draws(method.augment, unit, method.steps, size=size, seed=seed)
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
    """Accumulate the gradient of the active objectives' mean loss, and return their mean values."""
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
    """The values as floats, checked to be finite; only here the loop waits for the device."""
    numbers = dict(zip(values, (torch.stack(list(values.values())) / unit.shape[0]).tolist(), strict=True))
    if bad := [name for name, number in numbers.items() if not math.isfinite(number)]:
        raise UnitError(
            f"term {bad[0]!r} is {numbers[bad[0]]} at step {step} of unit {unit.index}; lower method.lr or "
            f"the term's weight"
        )
    return numbers
