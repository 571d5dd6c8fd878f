"""The one optimisation loop: augment, frozen teacher with taps, terms, gradient to the images, Adam, clip.

The random draws of all steps are made before the loop, from each batch's own generator; inside it there is
no host synchronisation but the reading of the losses every ``log_every`` steps. The image kept is the last
iterate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from .. import recipe
from ..errors import InputError
from ..precision import autocast
from ..progress import Bar
from ..seeds import generator
from ..teachers import Taps, Teacher
from .plan import Unit
from .terms import Term

Losses = list[dict[str, float]]
"""every log_every steps: the step and each term, weighted, as a mean over the unit's batches"""


def cosine(lr: float, step: int, steps: int) -> float:
    """Learning rate at a 0-based step: lr (1 + cos(pi step / steps)) / 2, no warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def draws(config: recipe.Augment, unit: Unit, steps: int, size: tuple[int, int], seed: int) -> Tensor | None:
    """Augmentation of every step and batch [steps, batches, k] for images of (H, W), or None where there is none."""
    if config.scale is None and config.flip == 0 and config.roll == (0, 0):
        return None
    low, high = config.roll
    per_batch = [
        resample_parameters(
            steps, *size, scale=config.scale, flip=config.flip, roll=(low, high + 1),
            generator=generator(seed, "augment", batch.classes[0], batch.slots[0]),
        )
        for batch in unit.batches
    ]  # fmt: skip
    return torch.stack(per_batch, dim=1)


def _objective(
    taps: Taps, terms: list[Term], config: recipe.Recover
) -> Callable[[Tensor, Tensor | None], dict[str, Tensor]]:
    """(images, draws of one step) -> named, weighted terms."""

    def objective(images: Tensor, parameters: Tensor | None) -> dict[str, Tensor]:
        if parameters is not None:
            images = resample(images, parameters)
        with autocast(images.device, config.precision):
            features = taps(images.contiguous(memory_format=torch.channels_last))
        return {name: value for term in terms for name, value in term(features).items()}

    return torch.compile(objective, fullgraph=True, dynamic=False) if config.compile else objective


def optimise(
    images: Tensor,
    unit: Unit,
    method: recipe.Method,
    config: recipe.Recover,
    teacher: Teacher,
    taps: Taps,
    terms: list[Term],
    seed: int,
    bar: Bar,
) -> tuple[Tensor, Losses]:
    """Optimise the images of one unit.

    Args:
        images: [N, C, H, W] initial images, normalised, in the order of ``unit.rows``.

    Returns:
        (images, losses): the last iterate, normalised and inside the box of valid colours.

    Raises:
        InputError: a term became NaN or infinite; the message names step and term.
    """
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    low, high = teacher.bounds(images.device)
    augmentation = draws(method.augment, unit, method.steps, (images.shape[2], images.shape[3]), seed)
    augmentation = None if augmentation is None else augmentation.to(images.device)
    objective = _objective(taps, terms, config)
    optimiser = torch.optim.Adam([images], lr=method.lr, betas=method.betas)
    losses: Losses = []
    for step in range(method.steps):
        optimiser.param_groups[0]["lr"] = cosine(method.lr, step, method.steps)
        parts = objective(images, None if augmentation is None else augmentation[step])
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        optimiser.step()
        with torch.no_grad():
            images.clamp_(low, high)
        if step % config.log_every == 0 or step == method.steps - 1:
            values = _read(parts, step, unit)
            losses.append({"step": step, **values})
            bar.advance(0, note=f"loss {sum(values.values()):.3f}")
        bar.advance(len(images))
    if not images.isfinite().all():
        raise InputError(
            f"recover: images of unit {unit.index} are not finite after step {method.steps - 1}; lower method.lr. "
            "Finished units are kept"
        )
    return images.detach(), losses


def _read(parts: dict[str, Tensor], step: int, unit: Unit) -> dict[str, float]:
    """The terms on the host (the loop's only synchronisation), checked to be finite."""
    values = {name: value.item() / unit.shape[0] for name, value in parts.items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise InputError(
            f"recover: term {bad[0]!r} is {values[bad[0]]} at step {step} of unit {unit.index}; lower method.lr or the "
            "term's weight. Finished units are kept"
        )
    return values
