"""A laboratory for recover: a random teacher and bank, and the engine's parts around one unit at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from fastdd import bank as banks
from fastdd.bank import Bank
from fastdd.recipe import Batch, BatchNorm, Gaussian, Method, Recover, Terms
from fastdd.recover import Unit, plan, tapped_layers
from fastdd.recover.loop import draws, optimise
from fastdd.recover.stage import initial_images
from fastdd.recover.terms import build_terms
from fastdd.resolution import resolve
from fastdd.teachers import Card, Features, Taps, Teacher, build, layer_names
from fastdd_kernels import resample

CPU = torch.device("cpu")
CLASSES, IPC, SEED = 4, 6, 5
SHAPE = (3, 8, 8)
Rows = Sequence[tuple[int, int]]


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

    def taps(self, terms: Terms) -> Taps:
        network = self.teacher.network
        return Taps(network, tapped_layers(terms, network), moments=terms.bn is not None)

    def start(self, method: Method, unit: Unit) -> Tensor:
        return initial_images(method, unit, SHAPE, self.teacher, self.real, SEED)

    def features(self, method: Method, unit: Unit, images: Tensor) -> Features:
        """After the first step's augmentation."""
        parameters = draws(method.augment, unit, 1, SHAPE[1:], SEED)
        return self.taps(method.terms)(images if parameters is None else resample(images, parameters[0]))

    def values(self, method: Method, unit: Unit, images: Tensor) -> dict[str, Tensor]:
        """The terms of the first step."""
        features = self.features(method, unit, images)
        terms = build_terms(method.terms, unit, self.taps(method.terms), self.bank, SEED, CPU)
        return {name: value for term in terms for name, value in term(features).items()}

    def gradients(self, method: Method, unit_images: int) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> gradient of the first step's loss to the initial image."""
        found = {}
        for unit in plan(CLASSES, IPC, method.batch, unit_images):
            images = self.start(method, unit).requires_grad_()
            torch.stack(list(self.values(method, unit, images).values())).sum().backward()
            assert images.grad is not None
            found.update(dict(zip(unit.rows, images.grad, strict=True)))
        return found

    def optimised(self, method: Method, config: Recover) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> final image."""
        found = {}
        for unit in plan(CLASSES, IPC, method.batch, config.unit_images):
            found.update(dict(zip(unit.rows, self.optimise(method, config, unit)[0], strict=True)))
        return found

    def optimise(
        self, method: Method, config: Recover, unit: Unit, terms: list[Any] | None = None
    ) -> tuple[Tensor, list[dict[str, float]]]:
        taps = self.taps(method.terms)
        if terms is None:
            terms = build_terms(method.terms, unit, taps, self.bank, SEED, CPU)
        start = self.start(method, unit)
        return optimise(start, unit, method, config, self.teacher, taps, terms, SEED, Silent())


def make_lab(folder: Path) -> Lab:
    """The laboratory, with its bank in a folder."""
    torch.manual_seed(0)
    network = build("resnet8", CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
    card = Card("resnet8", ("ant", "bee", "cow", "doe"), 3, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    teacher = Teacher(network.eval().requires_grad_(False), card)
    counts = (9, 12, 7, 10)
    images = torch.randint(0, 256, (sum(counts), *SHAPE), dtype=torch.uint8) // 2
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts))
    images += (labels * 40).to(torch.uint8)[:, None, None, None]
    layers = [*layer_names(network, "blocks"), *layer_names(network, "bn_inputs"), *layer_names(network, "stages")]
    banks.save(folder, *banks.build(teacher, [(images, labels)], len(images), layers), card.classes, "t", "d")
    first = [sum(counts[:c]) for c in range(CLASSES)]
    return Lab(teacher, Bank(folder), lambda rows: images[[first[c] + slot for c, slot in rows]])


def method(name: str, add: Sequence[str] = (), **changes: Any) -> Method:
    """A declared method with some values of its own, for 8 x 8 images."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "own.yaml"
        file.write_text(f"arms: {{a: {{method: {name}, add: [{', '.join(add)}]}}}}")
        declared = resolve(str(file)).recipe.arms["a"]
    return declared.model_copy(update={"augment": declared.augment.model_copy(update={"roll": (-1, 1)}), **changes})


METHODS = {
    "deda": lambda: method("deda"),
    "deda-bn": lambda: method("deda", terms=Terms(gaussian=Gaussian(layers="bn_inputs"), bn=BatchNorm())),
    "deda+dire": lambda: method("deda", ["dire"], batch=Batch(classes=1, slots=3)),
    "sre2l": lambda: method("sre2l", batch=Batch(classes=2, slots=1)),
    "sre2l+dire": lambda: method("sre2l", ["dire"], batch=Batch(classes=2, slots=3)),
}
