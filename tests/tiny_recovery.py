"""A tiny recovery: a random teacher, the bank of random images, and the parts around one unit at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from galleries import random_teacher, real_images
from torch import Tensor, nn

from fastdd.bank import Bank, Kept
from fastdd.bank import build as build_bank
from fastdd.config import Bank as BankConfig
from fastdd.config import BatchSize, Method, Recover, Terms
from fastdd.models.build import build
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Rows, Unit, plan, tapped
from fastdd.recover.loop import optimize
from fastdd.recover.objective import Objective, TeacherSignal, augmented, draws
from fastdd.recover.terms.base import AnyTerm, Context, Shape
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.teachers import Features, Taps, Teacher, layer_names

CPU = torch.device("cpu")
CLASSES, IPC, SEED = 4, 6, 5
SHAPE = (3, 8, 8)


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass


@dataclass(frozen=True)
class Lab:
    """A random teacher, and the bank of random images of different classes."""

    teacher: Teacher
    bank: Bank
    real: Callable[[Rows], Tensor]

    def double(self) -> nn.Module:
        """The teacher's network in float64."""
        network = build("resnet8", CLASSES)
        network.load_state_dict(self.teacher.network.state_dict())
        return network.double().eval()

    def recovery(self, method: Method, config: Recover | None = None) -> Recovery:
        return Recovery(
            method,
            config or Recover(),
            [self.teacher],
            [self.bank],
            real_images=self.real,
            shape=SHAPE,
            seed=SEED,
        )

    def taps(self, terms: Terms) -> Taps:
        return tapped(terms, self.teacher.network)

    def context(self, shape: Shape, taps: Taps | None = None) -> Context:
        """What a term is computed for; without taps, one that needs no layers."""
        return Context(shape, self.teacher.network, taps or self.taps(Terms()), bank=self.bank, seed=SEED)

    def start(self, method: Method, unit: Unit) -> Tensor:
        return self.recovery(method).initial(unit.rows)

    def features(self, method: Method, unit: Unit, images: Tensor) -> Features:
        """After the first step's augmentation."""
        parameters = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        return self.taps(method.terms)(
            augmented(images, parameters if parameters is None else parameters[0], method.augment)
        )

    def values(self, method: Method, unit: Unit, images: Tensor) -> dict[str, Tensor]:
        """The terms of the first step."""
        (objective,) = self.recovery(method).objective(unit.shape)
        drawn = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        return objective(
            images,
            None if drawn is None else drawn[0],
            objective.targets(unit),
            self.start(method, unit) if objective.paired else None,
        )

    def gradients(self, method: Method, unit_images: int) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> gradient of the first step's loss to the initial image."""
        found = {}
        for unit in plan(CLASSES, IPC, method.batch, unit_images):
            images = self.start(method, unit).requires_grad_()
            torch.stack(list(self.values(method, unit, images).values())).sum().backward()
            assert images.grad is not None
            found.update(dict(zip(unit.rows, images.grad, strict=True)))
        return found

    def optimized(self, method: Method, config: Recover) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> final image."""
        found = {}
        assert config.unit_images != "auto"
        for unit in plan(CLASSES, IPC, method.batch, config.unit_images):
            found.update(dict(zip(unit.rows, self.optimize(method, config, unit)[0], strict=True)))
        return found

    def optimize(
        self, method: Method, config: Recover, unit: Unit, terms: list[AnyTerm] | None = None
    ) -> tuple[Tensor, list[dict[str, float]]]:
        """Final images, normalized, and losses; with terms of one's own if given."""
        objectives = self.recovery(method, config).objective
        if terms is not None:
            own = [Objective(terms, self.taps(method.terms), config)]
            objectives = lambda _: own  # noqa: E731
        return optimize(
            self.start(method, unit),
            unit,
            method,
            config=config,
            bounds=self.teacher.bounds(torch.device("cpu")),
            signal=TeacherSignal(method, objectives, size=SHAPE[1:], seed=SEED),
            bar=Silent(),
        )


def make_lab(folder: Path) -> Lab:
    """The teacher and its bank, kept in a folder."""
    teacher = random_teacher("resnet8", ("ant", "bee", "cow", "doe"))
    network = teacher.network
    counts = (9, 12, 7, 10)
    images = torch.randint(0, 256, (sum(counts), *SHAPE), dtype=torch.uint8) // 2
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts))
    images += (labels * 40).to(torch.uint8)[:, None, None, None]
    layers = [
        *layer_names(network, "blocks"),
        *layer_names(network, "bn_inputs"),
        *layer_names(network, "stages"),
    ]
    data, config = (
        real_images(images, labels, len(images)),
        BankConfig(batch=len(images), class_bn="true", patch=4),
    )
    build_bank(folder, teacher, data, Kept.of(network, config, layers, seed=0), fingerprint="t")
    first = [sum(counts[:c]) for c in range(CLASSES)]
    return Lab(teacher, Bank(folder), lambda rows: images[[first[c] + slot for c, slot in rows]])


def method(name: str, add: Sequence[str] = (), **changes: Any) -> Method:
    """A declared method with some values of its own, for 8 x 8 images."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "own.yaml"
        file.write_text(f"arms: {{a: {{method: {name}, add: [{', '.join(add)}]}}}}")
        declared = resolve(str(file)).recipe.arms["a"]
    return declared.model_copy(
        update={"augment": declared.augment.model_copy(update={"roll": (-1, 1)}), **changes}
    )


METHODS = {
    "deda": lambda: method("deda"),
    "deda-bn": lambda: method("deda", terms=Terms(gaussian=Gaussian(layers="bn_inputs"), bn=BatchNorm())),
    "deda+dire": lambda: method("deda", ["dire"], batch=BatchSize(classes=1, slots=3)),
    "sre2l": lambda: method("sre2l", batch=BatchSize(classes=2, slots=1)),
    "gvbsm": lambda: method("gvbsm", batch=BatchSize(classes=2, slots=3)),
    "edc": lambda: method("edc", batch=BatchSize(classes=2, slots=1)),
    "sre2l+dire": lambda: method("sre2l", ["dire"], batch=BatchSize(classes=2, slots=3)),
}
