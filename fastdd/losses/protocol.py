"""The loss that a protocol prescribes, as a function of logits."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from torch import Tensor

from ..errors import InputError
from ..recipes.students import resolve_student
from .distillation import distillation


class Loss(Protocol):
    """A loss of the student's logits [B, C] and the teacher's [B, C]; see ``distillation``."""

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        *,
        temperature: float | Tensor = ...,
        hard_labels: Tensor | None = ...,
        class_shares: Tensor | None = ...,
    ) -> Tensor: ...


def of_protocol(name: str) -> Loss:
    """The loss between logits that a protocol prescribes.

    Args:
        name: a protocol such as ``sre2l-cifar``.

    Returns:
        ``distillation`` with the protocol's values. Where its temperature has a schedule, give
        ``temperature`` for each step; where its loss also takes the classes of the images, give
        ``hard_labels`` (``hard_weight``, as G-VBSM has it) or ``class_shares`` (``hard_part``, GIFT's).

    Raises:
        fastdd.errors.InputError: there is no such protocol, or its students learn from classes alone.
    """
    config = resolve_student({}, name)
    if config.labels == "hard":
        raise InputError(
            f"students of the protocol {name} learn from classes alone; take torch's cross_entropy"
        )
    return partial(
        distillation,
        loss=config.loss,
        temperature=config.temperature,
        student_temperature=config.student_temperature,
        t_squared=config.t_squared,
        hard_weight=config.hard_weight,
        hard_smoothing=config.hard_smoothing,
        hard_part=config.hard_part,
    )
