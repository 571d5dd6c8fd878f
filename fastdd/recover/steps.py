"""Which images of a class take part in a step (DELT), and which teachers.

DELT cuts T steps into R rounds and the slots of a class into R groups, the first (IPC mod R) of them one
larger. Group r joins at round r and is optimized to the end; before that its images are in no forward pass
and no statistic. One Adam and one cosine span all steps. A waiting image has zero gradient and zero moments,
but Adam counts its steps, so its first move is (1 - b1) / sqrt(1 - b2) = 1.58 times the learning rate. The
work is (R + 1) / 2 R of that with all slots from the start, 0.5625 for R = 8.

``method.ensemble`` says whether a step uses the first teacher, all of them, each in turn, or a few chosen
ones. CV-DD chooses two for each slot and weighs their losses by

    softmax(a / 5)        a: an accuracy of each of the two, in percent
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations, groupby

import torch
from torch import Tensor

from ..config import Method
from ..errors import InputError
from ..runtime.console import counted
from ..runtime.seeds import generator
from .plan import ClassSlots, Unit

TEMPERATURE = 5.0
"""accuracy in percent by which one teacher weighs e times as much as another; CV-DD's released value"""


@dataclass(frozen=True)
class Round:
    """Consecutive steps with the same active images.

    Attributes:
        rows: int64 positions of the active images in the whole unit; None: all are active.
    """

    steps: range
    unit: Unit
    rows: Tensor | None


def active_slots(slots: int, rounds: int) -> list[int]:
    """The number of active slots of a class in each round."""
    return list(accumulate(slots // rounds + (r < slots % rounds) for r in range(rounds)))


def rounds_of(method: Method, unit: Unit) -> list[Round]:
    """The rounds of a unit in order; a round that no slot joins is merged with the one before."""
    if method.early_late is None:
        return [Round(range(method.steps), unit, None)]
    number, slots = method.early_late.rounds, unit.shape[2]
    found = []
    for active, same in groupby(enumerate(active_slots(slots, number)), key=lambda pair: pair[1]):
        which = [r for r, _ in same]
        steps = range(method.steps * which[0] // number, method.steps * (which[-1] + 1) // number)
        part = replace(unit, batches=tuple(ClassSlots(b.classes, b.slots[:active]) for b in unit.batches))
        place = torch.arange(len(unit.rows)).view(-1, slots)[:, :active].flatten()
        found.append(Round(steps, part, None if active == slots else place))
    return found


def iterations(method: Method, unit: Unit) -> int:
    """Number of images optimized, summed over the steps of a unit."""
    if method.offset is not None and unit.part == 0:
        return 0
    return sum(len(part.steps) * len(part.unit.rows) for part in rounds_of(method, unit))


def teachers_of_steps(method: Method, unit: Unit, teachers: int, seed: int) -> list[list[int]]:
    """The teachers of each step, as ascending 0-based numbers; a step's loss is the mean of their losses.

    A draw depends on the step alone, so it is the same for all units. An offset belongs to one teacher.
    """
    if method.offset is not None:
        return [[unit.part - 1]] * method.steps
    if method.ensemble == "first":
        return [[0]] * method.steps
    if method.ensemble == "all":
        return [list(range(teachers))] * method.steps
    if method.ensemble == "round_robin":
        return [[step % teachers] for step in range(method.steps)]
    if method.ensemble_per == "slot":
        choices = list(combinations(range(teachers), method.ensemble))
        size, first = method.batch.slots, unit.batches[0].slots[0]
        return [list(choices[0 if size == "all" else first // size % len(choices)])] * method.steps
    order = torch.rand(method.steps, teachers, generator=generator(seed, "voters")).argsort(1)
    return order[:, : method.ensemble].sort(1).values.tolist()


def check_ensemble(key: str, method: Method, teachers: int) -> None:
    """Refuse a method that asks for more teachers, or has weights of others, than there are.

    Args:
        key: the recipe's key of the method, such as ``arms.cvdd``.
    """
    there = counted(teachers, "teacher")
    if not isinstance(method.ensemble, str) and method.ensemble > teachers:
        raise InputError(
            f"{key}.ensemble is {method.ensemble}, but it uses {there}; lower it, or add some to committee"
        )
    weights = method.ensemble_weights
    if not isinstance(weights, str) and method.ensemble != "first" and len(weights) != teachers:
        raise InputError(
            f"{key}.ensemble_weights has {counted(len(weights), 'number')}, but the arm uses {there}; give "
            "one for each, or the word accuracy"
        )


def teacher_weights(
    method: Method, teachers: Sequence[int], accuracies: Sequence[float | None]
) -> list[float] | None:
    """What the losses of a step's teachers weigh, in all 1; None: as much as one another.

    Args:
        accuracies: test accuracy of each of the run's teachers, 0 to 1; None: not measured.
    """
    rule = method.ensemble_weights
    if rule == "equal":
        return None
    percents: list[float] = []
    for teacher in teachers:
        if rule != "accuracy":
            percents.append(rule[teacher])
        elif (accuracy := accuracies[teacher]) is not None:
            percents.append(100 * accuracy)
        else:
            raise InputError(
                f"ensemble_weights is accuracy, but that of teacher {teacher} was not measured; give numbers"
            )
    # Without tensors, since a step that is captured computes this.
    shares = [math.exp((percent - max(percents)) / TEMPERATURE) for percent in percents]
    return [share / sum(shares) for share in shares]
