"""The one optimization loop: augment, frozen teacher with taps, terms, gradient to the images, Adam, clip.

What differs between methods lies beside it: what Adam moves (variables.py), which images are active at a step
(early_late.py), and which teachers speak (teacher_choice.py).

The random draws of all steps are made before the loop, from each batch's own generator; inside it there is
no host synchronization but the reading of the losses every ``log_every`` steps. The image kept is the last
iterate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import Method, Recover
from ..errors import InputError
from ..runtime.progress import Bar
from ..teachers import Teacher
from .augment import draws
from .early_late import rounds_of
from .objective import Objective
from .plan import Unit
from .teacher_choice import voters
from .terms.base import Shape, Values
from .variables import Formed, Offsets, Pixels, Variable

Losses = list[dict[str, float]]
"""every log_every steps: the step and each term, weighted, as a mean over the unit's batches"""


class UnitError(InputError):
    """The images or a term of one unit are no numbers any more; other units are not touched by that."""


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
    speakers: list[list[int]] = []
    for active in rounds_of(method, unit):
        rows = None if active.rows is None else active.rows.to(images.device)
        spoken = objectives(active.unit.shape)
        targets = [objective.targets(active.unit) for objective in spoken]
        speakers = speakers or voters(method, unit, len(spoken), seed)
        for step in active.steps:
            drawn = None if augmentation is None else augmentation[step]
            if drawn is not None and rows is not None and method.augment.per_image:
                drawn = drawn[rows]
            optimizer.param_groups[0]["lr"] = cosine(method.lr, step, method.steps)
            optimizer.zero_grad()
            values = _backward(variable, rows, drawn, [(spoken[i], targets[i]) for i in speakers[step]])
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
    speaking: Sequence[tuple[Objective, list[Any]]],
) -> Values:
    """Accumulate the gradient of the mean loss of some objectives, one after the other; their mean values."""
    together: Values = {}
    for objective, targets in speaking:
        values = objective(variable.images(rows), drawn, targets)
        if len(speaking) > 1:
            values = {name: value / len(speaking) for name, value in values.items()}
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
