"""What the works of recover run on: a random teacher, random real statistics, and a unit's steps.

Images are noise, the teacher has random weights and the running statistics of noise, and the real statistics
are random: the arithmetic is that of trained ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fastdd_kernels import pack_symmetric

from ..bank import Bank
from ..config import Method, Recover, Terms
from ..models.build import build
from ..recipes.resolve import resolve
from ..recover import ClassSlots, Recovery, Unit, tapped
from ..recover.loop import optimize
from ..recover.objective import Objective, TeacherSignal, draws
from ..recover.terms.base import Shape, Values
from ..recover.terms.gaussian import Gaussian
from ..runtime.precision import float32_products
from ..runtime.seeds import generator
from ..teachers import Card, Teacher


class Setting(NamedTuple):
    """The sizes of a benchmark.

    Attributes:
        statistics, sre2l, dire, deda: (batches, classes a batch, slots a batch) of the unit of each row.
    """

    network: str
    side: int
    real: int
    statistics: Shape
    sre2l: Shape
    dire: Shape
    deda: Shape


FULL = Setting(
    network="resnet18_small",
    side=32,
    real=500,
    statistics=(1, 10, 10),
    sre2l=(1, 100, 1),
    dire=(1, 50, 10),
    deda=(10, 1, 10),
)
QUICK = Setting(
    network="resnet8", side=8, real=6, statistics=(1, 2, 3), sre2l=(1, 6, 1), dire=(1, 3, 4), deda=(3, 1, 4)
)


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        pass


def random_teacher(setting: Setting, device: torch.device, batch: int = 100) -> Teacher:
    """Random weights, and the running statistics of noise."""
    torch.manual_seed(0)
    network, classes = build(setting.network, 100), tuple(map(str, range(100)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of the one batch, not a running average from 0 and 1
    with torch.no_grad():
        network.train()(torch.randn(batch, 3, setting.side, setting.side))
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Teacher(
        network.requires_grad_(False), Card(setting.network, classes, 3, mean=(0.5,) * 3, std=(0.25,) * 3)
    )


def in_float64(teacher: Teacher) -> Teacher:
    doubled = copy.deepcopy(teacher)
    doubled.network.double()
    return doubled


def unit_of(shape: Shape) -> Unit:
    """Batches of consecutive classes, all with the first slots."""
    batches, classes, slots = shape
    groups = [tuple(range(b * classes, (b + 1) * classes)) for b in range(batches)]
    return Unit(0, tuple(ClassSlots(group, tuple(range(slots))) for group in groups))


def declared(name: str, steps: int, **changes: object) -> Method:
    """A bundled recipe's method, from noise."""
    (method,) = resolve(name).recipe.arms.values()
    return method.model_copy(update={"steps": steps, "init": "noise", **changes})


@dataclass
class RandomBank:
    """Stands in for a Bank with what the terms read: random embeddings >= 0 and their Gaussians.

    Attributes:
        dtype: of what is read; the values are those of float32.
    """

    setting: Setting
    teacher: Teacher
    dtype: torch.dtype = torch.float32
    manifest: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = {"embeddings": [self.setting.real] * len(self.teacher.card.classes)}

    @cached_property
    def widths(self) -> dict[str, int]:
        """Name -> width of the layers whose Gaussians may be asked for, and of the embedding."""
        taps = tapped(Terms(gaussian=Gaussian()), self.teacher.network)
        weight = next(taps.parameters())
        with torch.no_grad():
            features = taps(weight.new_zeros(1, 3, self.setting.side, self.setting.side))
        return {
            "embedding": features.embedding.shape[1],
            **{k: v.shape[1] for k, v in features.pooled.items()},
        }

    def embeddings(self, c: int) -> Tensor:
        """Embeddings [real, D] of a class."""
        shape = self.setting.real, self.widths["embedding"]
        return torch.randn(shape, generator=generator(0, "real", c)).abs().to(self.dtype)

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(mean [k, D], packed covariance) of a layer."""
        D = self.widths[layer]
        means, covariances = [], []
        for c in classes:
            rows = torch.randn(self.setting.real, D, generator=generator(0, "real", layer, c)).abs()
            rows = rows.to(self.dtype)
            means.append(rows.mean(0))
            covariances.append(pack_symmetric(rows.T.cov(correction=0).view(D, D)))
        return torch.stack(means), torch.stack(covariances)


@dataclass(frozen=True)
class Prepared:
    """An objective that has read its targets of a unit already."""

    objective: Objective
    wanted: list[object]

    @property
    def device(self) -> torch.device:
        return self.objective.device

    @property
    def paired(self) -> bool:
        return self.objective.paired

    def targets(self, unit: Unit, before: Sequence[object] | None = None) -> list[object]:
        return self.wanted

    def __call__(
        self, images: Tensor, drawn: Tensor | None, targets: list[object], anchors: Tensor | None = None
    ) -> Values:
        return self.objective(images, drawn, targets, anchors)


class OurStep:
    """A unit of the engine from noise: its gradient at a first step, and some steps of the whole loop.

    The targets of the unit are read beforehand, as its thousand steps share them.

    Args:
        recovery: what other units of the same arm share; None: this is the first.
    """

    def __init__(
        self,
        method: Method,
        config: Recover,
        unit: Unit,
        *,
        teacher: Teacher,
        bank: RandomBank,
        recovery: Recovery | None = None,
    ) -> None:
        self.method, self.config, self.unit, self.teacher = method, config, unit, teacher
        self.size = (bank.setting.side, bank.setting.side)
        self.recovery = recovery or Recovery(
            method,
            config,
            [teacher],
            [cast(Bank, bank)],
            real_images=no_images,
            shape=(3, *self.size),
            seed=0,
        )
        (objective,) = self.recovery.objective(unit.shape)
        self.prepared = Prepared(objective, objective.targets(unit))
        self.images = self.recovery.initial(unit.rows).to(bank.dtype)

    def first_draws(self) -> Tensor:
        """The augmentation's draws of the first step, [batches, k]."""
        drawn = draws(self.method.augment, self.unit, 1, size=self.size, seed=0)
        assert drawn is not None
        return drawn[0].to(self.images.device)

    def gradient(self) -> Tensor:
        """Gradient of the first step's loss to the initial images, [N, C, H, W]."""
        images = self.images.contiguous(memory_format=torch.channels_last).requires_grad_()
        with float32_products(self.config.precision):
            values = self.prepared(images, self.first_draws(), self.prepared.wanted)
            return torch.autograd.grad(torch.stack(list(values.values())).sum(), images)[0]

    def run(self) -> None:
        """The method's steps from the initial images, which are not changed."""
        prepared = cast(Callable[[Shape], list[Objective]], lambda shape: [self.prepared])
        with float32_products(self.config.precision):
            optimize(
                self.images,
                self.unit,
                self.method,
                config=self.config,
                bounds=self.teacher.bounds(self.images.device),
                signal=TeacherSignal(self.method, prepared, size=self.size, seed=0),
                bar=Silent(),
            )


def no_images(rows: Sequence[tuple[int, int]]) -> Tensor:
    """The initial images of a benchmark's units, which none asks for."""
    raise AssertionError("units of a benchmark start from noise")
