"""The objective of one step: terms of the features of augmented images, and their targets.

It is one of the *signals* that move the images: each adds its gradient to them at every step. The others are
in matching/ (features, gradients, trajectories and kernels of synthetic and real images). All
that a signal draws comes from a generator of (seed, purpose, step, class), so a step can be repeated after a
kill, and a class gives the same images in any unit and process.

A *term* is built once for all units of one shape, and its *targets* (labels, statistics of the classes in the
unit) are read anew for each unit and passed in as tensors. So a step is compiled once for a shape, not once
for a unit.

Batch terms (cross-entropy, BatchNorm) give one value for each batch of the unit, class terms (Gaussian
alignment, covariance, DiRe) one for each class in each batch. The loss of a unit is their sum, so every batch
gets the gradient it would get alone.

The augmentation of every step is drawn before the loop: random (resized) crop, flip and roll as one operator.
A draw belongs to a batch, or with ``per_image`` to an image, and its generator is seeded by that batch's or
image's first class and slot. So neither the packing of batches into units nor the process that optimizes them
changes it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from ..config import Augment, Method, Recover
from ..models.build import memory_format
from ..runtime.precision import autocast
from ..runtime.seeds import generator
from ..teachers import Features, Taps
from .plan import Unit
from .stages import resized, size_of, sizes_of_steps
from .steps import Round, teacher_weights, teachers_of_steps
from .terms.base import AnyTerm, Shape, Values, add_values


@dataclass
class Objective:
    """The terms through one teacher, for units of one shape; a call gives the named values.

    Attributes:
        steps: (H, W) of the images -> the computation, compiled if ``config.compile`` is true.
        paired: whether a term compares images with those that they started from.
    """

    terms: Sequence[AnyTerm]
    taps: Taps
    config: Recover
    augment: Augment = field(default_factory=Augment)
    steps: dict[tuple[int, ...], Callable[..., Values]] = field(init=False, default_factory=dict)
    memory_format: torch.memory_format = field(init=False)
    paired: bool = field(init=False)

    def __post_init__(self) -> None:
        self.paired = any(term.paired for term in self.terms)
        self.memory_format = memory_format(self.taps, next(self.taps.parameters()).device)

    @property
    def device(self) -> torch.device:
        return next(self.taps.parameters()).device

    def targets(self, unit: Unit, before: Sequence[object] | None = None) -> list[object]:
        """The targets of each term for one unit.

        Args:
            before: those of the same unit with fewer active slots, in the round before (DELT); None: the
                unit begins.
        """
        found = [term.targets(unit) for term in self.terms]
        if before is None:
            return found
        return [
            term.continued(targets, earlier)
            for term, targets, earlier in zip(self.terms, found, before, strict=True)
        ]

    def __call__(
        self, images: Tensor, draws: Tensor | None, targets: list[object], anchors: Tensor | None = None
    ) -> Values:
        """The values of one step.

        Args:
            draws: the step's augmentation, an entry of ``draws``; None: there is none.
            anchors: the images that these started from, in the same order, for paired terms.
        """
        size = tuple(images.shape[2:])
        if size not in self.steps:
            self.steps[size] = self._compiled() if self.config.compile is True else self.plain
        return self.steps[size](images, draws, targets, anchors)

    def _compiled(self) -> Callable[..., Values]:
        # torch.compile keeps few graphs for each code object, so each size of each objective gets a code
        # object of its own.
        own = FunctionType(Objective.plain.__code__.replace(), globals())
        return torch.compile(MethodType(own, self), fullgraph=True, dynamic=False)

    def plain(
        self, images: Tensor, draws: Tensor | None, targets: list[object], anchors: Tensor | None = None
    ) -> Values:
        """The same, never compiled."""
        images = augmented(images, draws, self.augment)
        features = self._features(images)
        if anchors is not None:
            with torch.no_grad():
                started_from = self._features(augmented(anchors, draws, self.augment))
            features = features._replace(anchors=started_from)
        values: Values = {}
        for term, wanted in zip(self.terms, targets, strict=True):
            values |= term(features, images, wanted)
        return values

    def _features(self, images: Tensor) -> Features:
        """The teacher's features of augmented images."""
        with autocast(images.device, self.config.precision):
            features: Features = self.taps(images.contiguous(memory_format=self.memory_format))
        return features


def smallest_scale(config: Augment, steps: int) -> Tensor:
    """The low end of the crop's area range at each step, [steps] float64: CDA's curriculum from easy to hard.

    cosine: low + (high - low) (1 + cos(pi t / (m T))) / 2 for t < m T, then low
    """
    assert config.scale is not None
    low, high = config.scale
    progress = torch.arange(steps, dtype=torch.float64) / (config.milestone * max(steps, 1))
    share = {
        "none": torch.zeros_like(progress),
        "step": torch.ones_like(progress),
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + torch.cos(math.pi * progress)),
    }[config.curriculum]
    return low + (high - low) * torch.where(progress < 1, share, 0.0)


def draws(config: Augment, unit: Unit, steps: int, *, size: tuple[int, int], seed: int) -> Tensor | None:
    """The augmentation of every step, [steps, batches or images, k].

    It is rows of ``resample``, with the top left corner of the rectangle behind them where there is cutout.

    Returns:
        The draws, int64, or None if there is no augmentation.
    """
    crops = config.scale is not None or config.pad
    if not (crops or config.flip or config.cutout or config.roll != (0, 0)):
        return None
    owners = unit.rows if config.per_image else [(batch.classes[0], batch.slots[0]) for batch in unit.batches]
    (low, high), scale = config.roll, config.scale
    if scale is not None and config.curriculum != "none":
        scale = (smallest_scale(config, steps), scale[1])  # type: ignore[assignment]
    drawn = []
    for c, slot in owners:
        random = generator(seed, "augment", c, slot)
        parameters = resample_parameters(
            steps, *size, scale=scale, flip=config.flip, roll=(low, high + 1), generator=random
        )
        if config.pad:
            start = torch.randint(2 * config.pad + 1, (steps, 2), generator=random)
            parameters = torch.cat((parameters, start, torch.tensor([size]).expand(steps, 2)), dim=1)
        if config.cutout:
            corners = [_corners(steps, side, _hole(config, side), random) for side in size]
            parameters = torch.cat((parameters, *corners), dim=1)
        drawn.append(parameters)
    return torch.stack(drawn, dim=1)


def _hole(config: Augment, side: int) -> int:
    """Pixels that cutout's rectangle has along a side of so many."""
    return int(config.cutout * side + 0.5)


def _corners(steps: int, side: int, length: int, random: torch.Generator) -> Tensor:
    """First pixel [steps, 1] of ``length`` pixels around any one of a side; it may lie before the side, and
    the last one behind it (as in DSA's code)."""
    return torch.randint(side + 1 - length % 2, (steps, 1), generator=random) - length // 2


def augmented(images: Tensor, drawn: Tensor | None, config: Augment) -> Tensor:
    """Images [N, C, H, W] after a step's augmentation, an entry of ``draws``.

    They are padded by the mean color, 0, and resampled; then the cutout's rectangle becomes 0.
    """
    if drawn is None:
        return images
    size, pad = (images.shape[2], images.shape[3]), config.pad
    padded = F.pad(images, (pad,) * 4) if pad else images
    if not config.cutout:
        return resample(padded, drawn, size)
    images, corners = resample(padded, drawn[:, :-2], size), drawn[:, -2:]
    rows, columns = (
        _inside(corners[:, axis : axis + 1], _hole(config, side), side) for axis, side in enumerate(size)
    )
    holes = (rows[:, :, None] & columns[:, None, :])[:, None, None]
    return images.unflatten(0, (len(holes), -1)).masked_fill(holes, 0).flatten(0, 1)


def _inside(first: Tensor, length: int, side: int) -> Tensor:
    """Which pixels of a side are among the ``length`` ones from the first [G, 1] on, bool [G, side]."""
    pixels = torch.arange(side, device=first.device)
    return (first <= pixels) & (pixels < first + length)


# -- signals: what moves the images -----------------------------------------------------------------


class Variable(Protocol):
    """The normalized images [N, C, H, W] of a unit as a function of ``free``, the tensor that moves.

    Attributes:
        anchors: the images [N, C, H, W] that the unit starts from, before a formation cuts anything off.
    """

    free: Tensor
    anchors: Tensor

    def images(self, rows: Tensor | None = None) -> Tensor:
        """The images in these rows of the unit; None: all of them."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move ``free`` by the accumulated gradient."""

    def result(self) -> Tensor:
        """What is saved, detached and clipped to valid colors: the images, or the tiles that hold them."""


class Signal(ABC):
    """One pull on the images of a unit; ``start`` comes before the steps of each unit."""

    @abstractmethod
    def start(self, unit: Unit, steps: int) -> None:
        """Begin a unit that takes so many steps."""

    @abstractmethod
    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        """Add the gradient of one step to ``variable.free.grad``, and return the named values of its loss."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint inside a unit must keep beside the images; step and seed give the rest."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue, after ``start``, from what ``state`` returned."""
        assert not state, f"{type(self).__name__} keeps nothing, got {sorted(state)}"

    def learned(self) -> dict[str, float]:
        """Numbers that were learned or measured with the images, for the log of the unit."""
        return {}


class Draw(NamedTuple):
    """What a step draws."""

    teachers: tuple[int, ...]
    """0-based numbers of the teachers that take part"""
    augmentation: Tensor | None
    """int64 [batches or images, k], an entry of ``draws``; None: no augmentation"""


class TeacherSignal(Signal):
    """Terms of the features of augmented images, through the teachers that take part in a step.

    Args:
        objectives: shape of units -> an objective for each teacher.
        accuracies: test accuracy of each teacher, 0 to 1, for ``ensemble_weights``; None: not measured.
    """

    def __init__(
        self,
        method: Method,
        objectives: Callable[[Shape], Sequence[Objective]],
        *,
        size: tuple[int, int],
        seed: int,
        accuracies: Sequence[float | None] = (),
    ) -> None:
        self.method, self.objectives, self.size, self.seed = method, objectives, size, seed
        self.accuracies = accuracies

    def start(self, unit: Unit, steps: int) -> None:
        ensemble = self.objectives(unit.shape)
        sizes = sizes_of_steps(self.method, self.size)
        self.drawn: list[Tensor | None] = [None] * steps
        for size in set(sizes):
            drawn = draws(self.method.augment, unit, steps, size=size, seed=self.seed)
            if drawn is not None:
                drawn = drawn.to(ensemble[0].device)
                for step in range(steps):
                    if sizes[step] == size:
                        self.drawn[step] = drawn[step]
        self.active = teachers_of_steps(self.method, unit, len(ensemble), self.seed)
        self.part: Round | None = None
        self.targets: list[list[object]] = []

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        return self.gradient(variable, self.draw(part, step))

    def draw(self, part: Round, step: int) -> Draw:
        """What one step draws; the targets are read anew where a round begins."""
        if part is not self.part:  # DELT's images join in rounds, and have targets of their own
            self.part, self.ensemble = part, self.objectives(part.unit.shape)
            self.targets = [
                objective.targets(part.unit, self.targets[number] if self.targets else None)
                for number, objective in enumerate(self.ensemble)
            ]
            self.rows = None if part.rows is None else part.rows.to(self.ensemble[0].device)
        drawn = self.drawn[step]
        if drawn is not None and self.rows is not None and self.method.augment.per_image:
            drawn = drawn[self.rows]
        return Draw(tuple(self.active[step]), drawn)

    def gradient(self, variable: Variable, drawn: Draw) -> Values:
        """A step's gradient and values in the present round. What it launches depends on the teachers alone,
        so a capture can repeat it."""
        together: Values = {}
        weights = teacher_weights(self.method, drawn.teachers, self.accuracies)
        for place, number in enumerate(drawn.teachers):
            images = variable.images(self.rows)
            objective = self.ensemble[number]
            anchors = self._anchors(variable, images) if objective.paired else None
            values = objective(images, drawn.augmentation, self.targets[number], anchors)
            if weights is not None:
                values = {name: weights[place] * value for name, value in values.items()}
            elif len(drawn.teachers) > 1:
                values = {name: value / len(drawn.teachers) for name, value in values.items()}
            torch.stack(list(values.values())).sum().backward()
            add_values(together, values)
        return together

    def _anchors(self, variable: Variable, images: Tensor) -> Tensor:
        """What the images of the present round started from, at their present size."""
        anchors = variable.anchors if self.rows is None else variable.anchors[self.rows]
        return resized(anchors, size_of(images), antialias=self.method.antialias)
