"""The optimization loop: signals give the images their gradient, the optimizer moves them, they are clipped.

What moves is a ``Variable``: the pixels of the images, or with formations their low frequencies alone or the
tiles that are enlarged into them, or an offset that the images of a slot share (INFER). What moves it is a
``Signal``: terms through frozen teachers (objective.py), or the matching of synthetic and real images
(matching/). steps.py says which images and which teachers take part in a step.

The random draws are functions of the seed, the step and the images. Inside the loop the host waits for the
device only every ``log_every`` steps, to read the losses. The last iterate is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..config import Formation, Method, Offset, Recover
from ..distilled.formation import LowFrequencies
from ..distilled.zoom import collage, enlarged
from ..runtime.progress import Bar
from .capture import CapturedSteps, Capturer, optimizer_for_capture
from .checkpoint import Checkpoint
from .objective import Signal, TeacherSignal, Variable
from .plan import Unit, UnitError
from .steps import Round, rounds_of
from .terms.base import Values

Losses = list[dict[str, float]]
"""one entry every ``log_every`` steps: the step, and each weighted value as a mean over the unit's batches"""


Bounds = tuple[Tensor, Tensor]
"""normalized black and white, each [C, 1, 1]"""


class Pixels:
    """The images themselves, clipped after each step, or with ``clip=False`` at the end alone."""

    def __init__(self, images: Tensor, bounds: Bounds, clip: bool = True) -> None:
        self.free, self.bounds = images.contiguous(memory_format=torch.channels_last).requires_grad_(), bounds
        self.clip = clip

    def images(self, rows: Tensor | None = None) -> Tensor:
        return self.free if rows is None else self.free[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
        if self.clip:
            with torch.no_grad():
                self.free.clamp_(*self.bounds)

    def result(self) -> Tensor:
        images = self.free.detach()
        return images if self.clip else images.clamp(*self.bounds)


class Formed(Pixels):
    """Images reduced to the low frequencies that a formation stores, at the start and after each step."""

    def __init__(self, images: Tensor, bounds: Bounds, formation: Formation, clip: bool = True) -> None:
        super().__init__(images, bounds, clip)
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


class Zoomed(Pixels):
    """Tiles of stored images, which are enlarged into the images; the gradient passes the enlargement.

    The stored images [N / factor^2, C, H, W] are what moves and what is clipped, and they are the result.

    Args:
        images: the images that the tiles start from; each is reduced to a tile by nearest sampling.
        bounds: normalized black and white.
        factor: tiles along a side.
        clip: as for ``Pixels``.
    """

    def __init__(self, images: Tensor, bounds: Bounds, factor: int, clip: bool = True) -> None:
        super().__init__(collage(images, factor), bounds, clip)
        black, white = bounds
        self.factor, self.grey = factor, black + 0.5 * (white - black)

    def images(self, rows: Tensor | None = None) -> Tensor:
        images = enlarged(self.free, self.factor, self.grey)
        return images if rows is None else images[rows]


class Offsets:
    """INFER: real images plus an offset [C, H, W] for each slot of a unit's batches, which starts at zero.

    The images of all classes in a slot share its offset. INFER's batch is one slot. A batch of several, as
    with ``--add dire``, has an offset for each: one for all would move the images of a class alike, which
    DiRe's terms compare. As in the released code, the images are clipped only at the end: neither the offset
    nor what the teacher sees is clipped. The released code also keeps the offset that the last step started
    from (``before_last_step``).
    """

    def __init__(self, images: Tensor, bounds: Bounds, unit: Unit, config: Offset) -> None:
        self.start, self.bounds, self.config = images, bounds, config
        self.batches, self.classes, self.slots = unit.shape
        offsets = self.batches * self.slots
        self.free = torch.zeros(offsets, *images.shape[1:], device=images.device).requires_grad_()
        self.before = torch.zeros_like(self.free)

    def _moved(self, offset: Tensor) -> Tensor:
        of_batches = offset.view(self.batches, 1, self.slots, *offset.shape[1:])
        of_rows = of_batches.expand(-1, self.classes, *[-1] * offset.ndim)
        return self.start + of_rows.reshape(self.start.shape)

    def images(self, rows: Tensor | None = None) -> Tensor:
        images = self._moved(self.free)
        return images if rows is None else images[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.copy_(self.free.detach())
        optimizer.step()

    def result(self) -> Tensor:
        offset = self.before if self.config.before_last_step else self.free.detach()
        return self._moved(offset).clamp(*self.bounds)


def _variable(images: Tensor, unit: Unit, method: Method, bounds: Bounds) -> Variable:
    """The variable of a unit, which starts at normalized images [N, C, H, W]."""
    if method.formation is not None:
        if method.formation.kind == "zoom":
            return Zoomed(images, bounds, method.formation.factor, method.clip)
        return Formed(images, bounds, method.formation, method.clip)
    if method.offset is not None:
        return Offsets(images, bounds, unit, method.offset)
    return Pixels(images, bounds, method.clip)


def cosine(lr: float, step: int, steps: int) -> float:
    """The learning rate at a 0-based step: lr (1 + cos(pi step / steps)) / 2, without warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimize(
    images: Tensor,
    unit: Unit,
    method: Method,
    *,
    config: Recover,
    bounds: Bounds,
    signal: Signal,
    bar: Bar,
    checkpoint: Checkpoint | None = None,
    capturer: Capturer | None = None,
    first_gradient: Tensor | None = None,
) -> tuple[Tensor, Losses]:
    """Optimize the images of one unit.

    Args:
        images: [N, C, H, W] normalized initial images, in the order of ``unit.rows``.
        unit: the unit.
        method: what is optimized.
        config: the recover section of the recipe.
        bounds: normalized black and white, each [C, 1, 1].
        signal: what moves the images.
        bar: progress, in images times steps.
        checkpoint: where the state inside the unit is kept; None: nowhere.
        capturer: records a step and repeats it, where ``signal`` is a TeacherSignal; None: each step is run
            as it is.
        first_gradient: [N, C, H, W], added to the gradient of the images at the first step; None: nothing is.

    Returns:
        (images, losses): the last iterate, normalized and clipped to valid colors, and the log. A formation
        of kind zoom gives the stored images, [N / formation.images, C, H, W].

    Raises:
        UnitError: a value or an image became NaN or infinite; the message names the step and the value.
    """
    variable = _variable(images, unit, method, bounds)
    optimizer = _optimizer(method, variable.free, capturer)
    losses: Losses = []
    signal.start(unit, method.steps)
    done = 0 if checkpoint is None else checkpoint.restore(variable.free, optimizer, signal, losses)
    take: Callable[[Round, int], Values] = partial(_take, signal, variable, optimizer)
    if capturer is not None:
        assert isinstance(signal, TeacherSignal)  # the caller looks
        take = CapturedSteps(signal, variable, optimizer, capturer)
    for active in rounds_of(method, unit):
        for step in active.steps:
            if step < done:
                bar.advance(len(active.unit.rows))
                continue
            if method.schedule == "cosine":
                _set_lr(optimizer, cosine(method.lr, step, method.steps))
            if step == 0 and first_gradient is not None:
                values = _take(signal, variable, optimizer, active, step, added=first_gradient)
            else:
                values = take(active, step)
            if step % config.log_every == 0 or step == method.steps - 1:
                numbers = _read(values, step, unit)
                losses.append({"step": step, **numbers})
                bar.advance(0, note=f"loss {sum(numbers.values()):.3f}")
            bar.advance(len(active.unit.rows))
            if checkpoint is not None and (step + 1) % config.checkpoint_every == 0:
                checkpoint.save(step + 1, variable.free, optimizer, signal, losses)
    if not variable.free.isfinite().all():
        raise UnitError(
            f"images of unit {unit.index} are not finite after step {method.steps - 1}; lower method.lr"
        )
    return variable.result(), losses


def _take(
    signal: Signal,
    variable: Variable,
    optimizer: torch.optim.Optimizer,
    part: Round,
    step: int,
    *,
    added: Tensor | None = None,
) -> Values:
    """One step: the gradient, to which ``added`` is added, the update and the clipping."""
    optimizer.zero_grad()
    values = signal(variable, part, step)
    if added is not None:
        variable.images().backward(added)
    variable.step(optimizer)
    return values


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    (group,) = optimizer.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def _optimizer(method: Method, free: Tensor, capturer: Capturer | None) -> torch.optim.Optimizer:
    if capturer is not None:
        return optimizer_for_capture(method, free)
    if method.optimizer == "sgd":
        return torch.optim.SGD([free], lr=method.lr, momentum=method.momentum)
    # On a GPU one fused kernel reads and writes everything once.
    return torch.optim.Adam([free], lr=method.lr, betas=method.betas, fused=free.is_cuda or None)


def _read(values: dict[str, Tensor], step: int, unit: Unit) -> dict[str, float]:
    """The values as floats, checked to be finite; only here the loop waits for the device."""
    numbers = dict(zip(values, (torch.stack(list(values.values())) / unit.shape[0]).tolist(), strict=True))
    if bad := [name for name, number in numbers.items() if not math.isfinite(number)]:
        raise UnitError(
            f"term {bad[0]!r} is {numbers[bad[0]]} at step {step} of unit {unit.index}; lower method.lr or "
            f"the term's weight"
        )
    return numbers
