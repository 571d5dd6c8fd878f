"""The work of recover: a step of the images of each arm's first unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..bank import Bank
from ..bank.reader import Spread
from ..config import CONTROL, BatchSize, Method, Recover
from ..recover import (
    ClassSlots,
    RealImages,
    Recovery,
    Rows,
    Signal,
    Unit,
    all_units,
    forbids_capture,
    match_signal,
    share_of_work,
    tapped,
)
from ..recover.resources import MOST_IMAGES, MOST_IMAGES_ON_CPU, compiles
from ..recover.steps import iterations, rounds_of
from ..recover.terms.base import term_class
from ..runtime.progress import Bar
from ..teachers import Taps, Teacher
from .expert_works import trajectory_signal
from .subject import Subject
from .work import Steps, Work

CPU = torch.device("cpu")


def recover_works(subject: Subject, device: torch.device, processes: int) -> Iterator[Work]:
    """The work of each arm that is optimized."""
    for arm, method in subject.arms.items():
        if arm == CONTROL or method.given is not None or not method.steps:
            continue
        total = subject.seen(arm) * subject.sizes.classes
        size = unit_images(subject.recipe.recover, device, total, processes)
        units = _units(subject, method, size)
        if units:
            yield _work(subject, arm, device, units)


def unit_images(config: Recover, device: torch.device, total: int, processes: int) -> int:
    """Images a unit where memory suffices."""
    if config.unit_images != "auto":
        return config.unit_images
    if device.type == "cpu":
        return MOST_IMAGES_ON_CPU
    return max(1, min(MOST_IMAGES, -(-total // processes)))


def _units(subject: Subject, method: Method, size: int) -> list[Unit]:
    teachers = len(subject.teachers_of(method))
    units = all_units(method, subject.recipe.ipc, subject.sizes.classes, teachers, unit_images=size)
    return [unit for unit in units if iterations(method, unit)]


def _work(subject: Subject, arm: str, device: torch.device, units: Sequence[Unit]) -> Work:
    method, config, first = subject.arms[arm], subject.recipe.recover, units[0]
    numbers = subject.teachers_of(method)
    names = [list(subject.teachers)[number] for number in numbers]
    images = len(rounds_of(method, first)[0].unit.rows)
    done = sum(iterations(method, unit) for unit in units)
    networks = [subject.teachers[name].network for name in names]
    captured = device.type == "cuda" and config.capture is not False
    shapes = {part.unit.shape for unit in units for part in rounds_of(method, unit)}
    taps = [tapped(method.teacher_terms, subject.teacher(name, CPU).network) for name in names]
    compiled = device.type == "cpu" and compiles(config, method, units, taps, shape=subject.sizes.shape)
    return Work(
        f"recover {arm}",
        "steps",
        images,
        done / images * share_of_work(method, subject.sizes.shape[1:]),
        partial(_steps, subject, method, names, first, compiled, device),
        repeats=len(names) if method.ensemble != "first" else 1,
        pieces=len(units),
        captured=captured and forbids_capture(method, networks, device) is None,
        compiled=compiled,
        graphs=len(shapes),
        alike=f"recover {arm} {images}",
        fewest=2 if _divisible(method) else images,
    )


def _divisible(method: Method) -> bool:
    """Whether fewer images of a unit take as much less, and can be optimized by themselves."""
    paired = any(term_class(name).paired for name in method.terms)
    whole = (method.match, method.offset, method.early_late, method.perturb, method.formation)
    return not paired and all(each is None for each in whole)


def _fewer(method: Method, unit: Unit, images: int) -> tuple[Method, Unit]:
    """A method and a unit of so many images, all of a class; as they are where those are its first ones."""
    if len(rounds_of(method, unit)[0].unit.rows) <= images:
        return method, unit
    changed = method.model_copy(update={"batch": BatchSize(classes=1, slots=images)})
    return changed, Unit(0, (ClassSlots((0,), tuple(range(images))),))


def _steps(
    subject: Subject,
    method: Method,
    names: Sequence[str],
    unit: Unit,
    compiled: bool,
    device: torch.device,
    steps: Steps,
    images: int,
) -> None:
    """Optimize a unit until ``steps`` ends it."""
    method, unit = _fewer(method, unit, images)
    shape, classes = subject.sizes.shape, subject.sizes.classes
    # At its full size from the start, since steps of smaller images are counted by their share of the work.
    method = method.model_copy(update={"sizes": None, "init": "noise" if method.init == "noise" else "real"})
    # Tensors without values cannot be compiled or captured.
    real = not isinstance(torch.empty(0), FakeTensor)
    update = {"compile": compiled and real, "log_every": 10**9} | ({} if real else {"capture": False})
    config = subject.recipe.recover.model_copy(update=update)
    teachers = [subject.teacher(name, device) for name in names]
    embeddings = -(-subject.sizes.train // classes)
    banks = [
        cast(Bank, ShapesOfBank(subject.kept(name, each.network).taps, each, subject, embeddings))
        for name, each in zip(names, teachers, strict=True)
    ]

    def real_images(rows: Rows) -> Tensor:
        return torch.zeros(len(rows), *shape, dtype=torch.uint8, device=device)

    def matching() -> Signal:
        assert method.match is not None
        if method.match.trajectory is not None:
            return trajectory_signal(subject, method.match, device)
        images = torch.zeros(subject.sizes.train, *shape, dtype=torch.uint8, device=device)
        counts = tuple(subject.sizes.train // classes for _ in range(classes))
        return match_signal(method.match, config, RealImages(images, counts, teachers[0], 0), device=device)

    recovery = Recovery(
        method,
        config,
        teachers,
        banks,
        real_images=real_images,
        shape=shape,
        seed=0,
        matching=None if method.match is None else matching,
    )
    bar: Bar = steps
    recovery.optimize(unit, bar)


class ShapesOfBank:
    """Stands in for a bank: statistics of the right shapes, all of them 0.

    Args:
        taps: the teacher with taps in the layers of the bank.
    """

    def __init__(self, taps: Taps, teacher: Teacher, subject: Subject, embeddings: int) -> None:
        with torch.no_grad():
            device = next(teacher.network.parameters()).device
            one = torch.zeros(1, *subject.sizes.shape, dtype=torch.uint8, device=device)
            self.features = taps(teacher.normalize(one))
        kept = subject.recipe.bank.embeddings
        self.number = embeddings if kept == "all" else min(kept, embeddings)
        classes = subject.sizes.classes
        self.counts = (embeddings,) * classes
        self.manifest = {"embeddings": [self.number] * classes, "teacher": ""}
        self.classes = teacher.card.classes

    def __len__(self) -> int:
        return len(self.counts)

    def embeddings(self, c: int) -> Tensor:
        return torch.zeros(self.number, self.features.embedding.shape[1])

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        D = self.features.pooled[layer].shape[1]
        packed = torch.zeros(len(classes), D * (D + 1) // 2)
        return torch.zeros(len(classes), D), packed

    def class_batch_norm(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        width = self.features.moments[layer][0].shape[1]
        return torch.zeros(len(classes), width), torch.ones(len(classes), width)

    def spread(
        self, layer: str, kind: Literal["image", "patch"], classes: Sequence[int], patch: int
    ) -> Spread:
        found = self.features.moments if kind == "image" else self.features.patches
        width = found[layer][0].shape[1]
        return Spread(*(torch.ones(len(classes), width) for _ in Spread._fields))
