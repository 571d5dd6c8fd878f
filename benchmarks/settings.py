"""What the step benchmarks run on: shapes, a random teacher, random real statistics, and a unit that only steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastdd.config import Method, Recover, Terms
from fastdd.models.build import build
from fastdd.recover import Recovery, Unit, tapped
from fastdd.recover.augment import draws
from fastdd.recover.loop import optimize
from fastdd.recover.objective import Objective
from fastdd.recover.terms.base import Shape, Values
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.runtime.seeds import generator
from fastdd.teachers import Card, Teacher
from fastdd_kernels import pack_symmetric


class Setting(NamedTuple):
    """Shapes are (batches, classes a batch, slots a batch)."""

    network: str
    side: int
    real: int
    """real embeddings a class"""
    statistics: Shape
    sre2l: Shape
    dire: Shape
    deda: Shape


FULL = Setting("resnet18_small", 32, 500, (1, 10, 10), (1, 100, 1), (1, 50, 10), (10, 1, 10))
QUICK = Setting("resnet8", 8, 6, (1, 2, 3), (1, 6, 1), (1, 3, 4), (3, 1, 4))


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
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
    return Teacher(network.requires_grad_(False), Card(setting.network, classes, 3, (0.5,) * 3, (0.25,) * 3))


@dataclass
class RandomBank:
    """Stands in for the bank: non-negative random embeddings, and Gaussians, of any class."""

    setting: Setting
    teacher: Teacher
    manifest: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = {"embeddings": [self.setting.real] * len(self.teacher.card.classes)}

    @cached_property
    def widths(self) -> dict[str, int]:
        """Of the layers whose Gaussians may be asked for, and of the embedding."""
        taps = tapped(Terms(gaussian=Gaussian()), self.teacher.network)
        device = next(taps.parameters()).device
        with torch.no_grad():
            features = taps(torch.zeros(1, 3, self.setting.side, self.setting.side, device=device))
        return {
            "embedding": features.embedding.shape[1],
            **{k: v.shape[1] for k, v in features.pooled.items()},
        }

    def embeddings(self, c: int) -> Tensor:
        return torch.randn(
            self.setting.real, self.widths["embedding"], generator=generator(0, "real", c)
        ).abs()

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        D = self.widths[layer]
        means, covariances = [], []
        for c in classes:
            rows = torch.randn(self.setting.real, D, generator=generator(0, "real", layer, c)).abs()
            means.append(rows.mean(0))
            covariances.append(pack_symmetric(rows.T.cov(correction=0).view(D, D)))
        return torch.stack(means), torch.stack(covariances)


@dataclass(frozen=True)
class Prepared:
    """An objective whose targets for a unit are read already."""

    objective: Objective
    wanted: list[Any]

    def targets(self, unit: Unit) -> list[Any]:
        return self.wanted

    def __call__(self, images: Tensor, drawn: Tensor | None, targets: list[Any]) -> Values:
        return self.objective(images, drawn, targets)


class OurStep:
    """A unit of the engine from noise: its gradient at a first step, and some steps of the whole loop."""

    def __init__(
        self,
        method: Method,
        config: Recover,
        unit: Unit,
        teacher: Teacher,
        bank: RandomBank,
        recovery: Recovery | None,
    ) -> None:
        self.method, self.config, self.unit, self.teacher = method, config, unit, teacher
        shape = (3, bank.setting.side, bank.setting.side)
        self.recovery = recovery or Recovery(method, config, [teacher], [bank], _no_images, shape, 0)  # type: ignore[list-item]
        (objective,) = self.recovery.objective(unit.shape)
        self.prepared = Prepared(objective, objective.targets(unit))
        self.images = self.recovery.initial(unit.rows)

    def first_draws(self) -> Tensor:
        """Those of the first step, [batches, k]."""
        drawn = draws(self.method.augment, self.unit, 1, tuple(self.images.shape[2:]), 0)  # type: ignore[arg-type]
        assert drawn is not None
        return drawn[0].to(self.images.device)

    def gradient(self) -> Tensor:
        """Of the first step's loss to the initial images, [N, C, H, W]."""
        images = self.images.contiguous(memory_format=torch.channels_last).requires_grad_()
        values = self.prepared(images, self.first_draws(), self.prepared.wanted)
        return torch.autograd.grad(torch.stack(list(values.values())).sum(), images)[0]

    def run(self) -> None:
        prepared: Callable[[Shape], list[Any]] = lambda shape: [self.prepared]  # noqa: E731
        optimize(self.images, self.unit, self.method, self.config, self.teacher, prepared, 0, Silent())


def _no_images(rows: Sequence[tuple[int, int]]) -> Tensor:
    raise AssertionError("units of a benchmark start from noise")
