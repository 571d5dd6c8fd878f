"""The optimization loop: signals give the images their gradient, the optimizer moves them, they are clipped.

What moves is a ``Variable`` (variables.py), such as the pixels of the images. What moves it is a ``Signal``:
terms through frozen teachers (objective.py), or the matching of synthetic and real images (matching/).
steps.py says which images and which teachers take part in a step, and stages.py where images change their
size or are blended with real ones.

The random draws are functions of the seed, the step and the images. Inside the loop the host waits for the
device only every ``log_every`` steps, to read the losses. The last iterate is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..config import Method, Recover
from ..runtime.events import send
from ..runtime.progress import Bar
from .capture import CapturedSteps, Capturer, optimizer_for_capture
from .checkpoint import Checkpoint
from .objective import Signal, TeacherSignal, Variable
from .plan import Unit, UnitError
from .stages import Stage, resized, size_of, stages_of
from .steps import Round, rounds_of
from .terms.base import Values
from .variables import Bounds, Pixels, variable_of

Losses = list[dict[str, float]]
"""one entry every ``log_every`` steps: the step, and each weighted value as a mean over the unit's batches"""
RealImages = Callable[[Tensor], Tensor]
"""images of a unit -> the normalized real images [N, C, H, W], of the data's size, to blend them with"""


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
    real: RealImages | None = None,
) -> tuple[Tensor, Losses]:
    """Optimize the images of one unit.

    Args:
        images: [N, C, H, W] normalized initial images, in the order of ``unit.rows``.
        bounds: normalized black and white, each [C, 1, 1].
        checkpoint: where the state inside the unit is kept; None: nowhere.
        capturer: records a step and repeats it, where ``signal`` is a TeacherSignal; None: each step is run
            as it is.
        first_gradient: [N, C, H, W], added to the gradient of the images at the first step; None: nothing is.
        real: chooses the real images of a blend anew; None: they are ``images``.

    Returns:
        (images, losses): the last iterate, normalized and clipped to valid colors, and the log. A formation
        of tiles gives the stored images, [N / formation.images, C, H, W].

    Raises:
        UnitError: a value or an image became NaN or infinite; the message names the step and the value.
    """
    variable = variable_of(images, unit, method, bounds)
    optimizer = _optimizer(method, variable.free, capturer)
    stages = {stage.steps.start: stage for stage in stages_of(method)} if method.stages > 1 else {}
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
            if step in stages:
                assert isinstance(variable, Pixels)  # the recipe has no stages of anything else
                _begin(stages[step], variable, optimizer, method=method, real=real)
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
                send("losses", step=unit.index * method.steps + step, values=numbers)
            bar.advance(len(active.unit.rows))
            if checkpoint is not None and (step + 1) % config.checkpoint_every == 0:
                checkpoint.save(step + 1, variable.free, optimizer, signal, losses)
    if not variable.free.isfinite().all():
        raise UnitError(
            f"images of unit {unit.index} are not finite after step {method.steps - 1}; lower method.lr"
        )
    return variable.result(), losses


def _begin(
    stage: Stage,
    variable: Pixels,
    optimizer: torch.optim.Optimizer,
    *,
    method: Method,
    real: RealImages | None,
) -> None:
    """Begin a stage: resize the images, blend them with real ones unless it is the first, and let the
    optimizer start anew."""
    size, residual = stage.size(size_of(variable.anchors)), method.residual
    chosen = None
    if residual is not None and stage.number:
        chosen = variable.anchors if real is None else real(variable.images().detach())
    variable.resize(size, antialias=method.antialias)
    if residual is not None and chosen is not None:
        variable.blend(resized(chosen, size, antialias=method.antialias), residual.alpha)
    if residual is None or residual.reset:
        _renew(optimizer, variable.free)


def _renew(optimizer: torch.optim.Optimizer, free: Tensor) -> None:
    """Let an optimizer move a tensor as a new one does; what it keeps of that tensor stays in its place."""
    optimizer.param_groups[0]["params"] = [free]
    for kept in optimizer.state[free].values():
        kept.zero_()


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
