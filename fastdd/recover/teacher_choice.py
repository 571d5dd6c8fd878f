"""Which of several teachers speak at a step: all, one after the other, or a few that are drawn (CV-DD)."""

from __future__ import annotations

import torch

from ..config import Method
from ..errors import InputError
from ..runtime.seeds import generator
from .plan import Unit


def speakers(method: Method, teachers: int) -> int:
    """How many of a run's teachers a method listens to, from the first on."""
    return 1 if method.voters == "first" and method.offset is None else teachers


def voters(method: Method, unit: Unit, teachers: int, seed: int) -> list[list[int]]:
    """The teachers of each step, ascending; the loss of a step is their mean.

    A draw depends on the step alone, so that batches may share a unit. An offset belongs to one teacher.

    Raises:
        InputError: more voters than teachers.
    """
    if method.offset is not None:
        return [[unit.part - 1]] * method.steps
    if method.voters == "first":
        return [[0]] * method.steps
    if method.voters == "all":
        return [list(range(teachers))] * method.steps
    if method.voters == "round_robin":
        return [[step % teachers] for step in range(method.steps)]
    if method.voters > teachers:
        raise InputError(
            f"method.voters is {method.voters}, but there are {teachers} teachers; lower it or add teachers"
        )
    order = torch.rand(method.steps, teachers, generator=generator(seed, "voters")).argsort(1)
    return order[:, : method.voters].sort(1).values.tolist()
