"""What a run is made of, as far as its cost depends on it; neither its images nor its weights are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from ..bank import Kept
from ..config import CONTROL, RANDOM_REAL, Method, Precision, Recipe, Student, Teacher, Terms
from ..config.naming import student_section
from ..data.published_sizes import SIZES
from ..data.real_data import RealData
from ..errors import InputError
from ..models.build import build
from ..models.outline import network_for
from ..protocols import SettledStudent, settle_student
from ..recipes.meant import with_networks, with_precision
from ..recipes.used_teachers import teachers_used, working_teachers
from ..recover import Needs, needs, seen_slots
from ..runtime.precision import on_device
from ..teachers import Card, mixed_layer_names
from ..teachers import Teacher as Network
from .fake_device import Kind


@dataclass(frozen=True)
class Sizes:
    """The sizes of a data set.

    Attributes:
        classes, train, test: number of classes, of training and of test images.
        shape: (C, H, W) of an image as networks see it.
        stored: pixels of a stored image, which decoding depends on.
        source: where these numbers come from, in words.
    """

    classes: int
    train: int
    test: int
    shape: tuple[int, int, int]
    stored: int
    source: str

    @staticmethod
    def of(real: RealData, root: str) -> Sizes:
        """The sizes of real images, which are in ``root``."""
        first = real.train.reader.pixels(0, real.shape[0])
        return Sizes(
            len(real.classes),
            len(real.train),
            len(real.evaluation_set),
            real.shape,
            first.shape[1] * first.shape[2],
            f"the images in {root}",
        )


@dataclass(frozen=True)
class Subject:
    """A recipe and the sizes of its data.

    Attributes:
        recipe: the recipe, with every ``network: convnet`` replaced by what it means for the images.
    """

    recipe: Recipe
    sizes: Sizes

    @staticmethod
    def of(recipe: Recipe, given: dict[str, int] | None = None, kind: Kind = "cpu") -> Subject:
        """The subject of a recipe.

        Args:
            given: ``classes``, ``train`` and ``test`` in place of those of its data.
            kind: what it runs on: this machine's processor, or a GPU since Ampere.

        Raises:
            InputError: its data is not here, its sizes are not known, and they are not given.
        """
        sizes = _sizes(recipe, given or {})

        def precision(key: str, asked: Precision) -> Precision:
            if kind == "cpu":
                return on_device(key, asked, torch.device("cpu"))
            return "bf16" if asked == "auto" else asked

        def network(key: str, name: str, follows: bool) -> str:
            others = () if follows else ("resnet20",)  # which keeps statistics
            return network_for(key, name, sizes.classes, sizes.shape, others=others)

        return Subject(with_networks(with_precision(recipe, precision), network), sizes)

    @cached_property
    def arms(self) -> dict[str, Method]:
        """What is compared, by name, the control first."""
        return {CONTROL: RANDOM_REAL, **self.recipe.arms}

    @cached_property
    def teachers(self) -> dict[str, Teacher]:
        """The teacher of the run under an empty name, then those of the committee."""
        return self.recipe.all_teachers

    @cached_property
    def students(self) -> dict[str, Student]:
        """The section ``student`` under an empty name, then the further students."""
        return self.recipe.all_students

    @cached_property
    def working_teachers(self) -> list[str]:
        """The names, in ``teachers``, of those that an arm recovers with or that label, and the run's own."""
        return list(working_teachers(self.recipe).values())

    def teachers_of(self, method: Method) -> tuple[int, ...]:
        """The numbers, in ``teachers``, of those that a method uses."""
        return teachers_used(method, list(self.recipe.committee))

    def seen(self, arm: str) -> int:
        """Images a class that the arm's students see."""
        method, used = self.arms[arm], len(self.teachers_of(self.arms[arm]))
        return seen_slots(method, self.recipe.ipc, self.sizes.classes, used)

    def protocol(self, arm: str, student: str = "") -> SettledStudent:
        """What the students of a kind go through with an arm."""
        formation = self.arms[arm].formation
        return settle_student(
            self.students[student],
            self.seen(arm) * self.sizes.classes,
            self.sizes.classes,
            student_section(student),
            per_file=1 if formation is None else formation.images,
        )

    def teacher(self, name: str, device: torch.device) -> Network:
        """A teacher with random weights; ``name`` is one in ``teachers``."""
        config, (channels, height, width) = self.teachers[name], self.sizes.shape
        names = tuple(map(str, range(self.sizes.classes)))
        with device:
            network = build(config.network, self.sizes.classes, channels)
        # Its accuracy weighs teachers of a committee, whatever it is.
        card = Card(
            config.network, names, channels, config.mean, std=config.std, size=(height, width), accuracy=1.0
        )
        return Network.of(network, card, device)

    def kept(self, name: str, network: nn.Module) -> Kept:
        """What the bank keeps of a teacher: what the terms of its arms need, and what the recipe asks for."""
        number = list(self.teachers).index(name)
        terms = [each.teacher_terms for each in self.arms.values() if number in self.teachers_of(each)]
        needed = Needs.together(_needed(terms, network))
        config = needed.of_bank(self.recipe.bank)
        chosen = mixed_layer_names(network, config.layers)
        return Kept.of(network, config, {*needed.gaussians, *chosen}, seed=0)


def _needed(terms: list[Terms], network: nn.Module) -> Iterator[Needs]:
    for each in terms:
        yield needs(each, network)


def _sizes(recipe: Recipe, given: dict[str, int]) -> Sizes:
    data = recipe.data
    known = SIZES.get((recipe.dataset or "").removesuffix("cpu"))
    if {"classes", "train", "test"} <= given.keys() and (data.size or known):
        side = data.size or (known.side if known else 0)
        stored = known.stored if known else side * side
        source = "the sizes that were given"
        return _as_given((0, 0, 0, side, stored), data.channels, given, source)
    if data.root == "digits" or Path(data.root).exists() or (os.sep not in data.root and ":" in data.root):
        found = Sizes.of(RealData(recipe, torch.device("cpu")), data.root)
        classes, train, test = (given.get(key, getattr(found, key)) for key in ("classes", "train", "test"))
        return replace(found, classes=classes, train=train, test=test)
    if known is None:
        raise InputError(
            f"data.root {data.root} is not here, and no sizes of the data set {recipe.dataset} are known; "
            "give the data with data.root=, or its sizes with --classes, --images, --test-images and "
            "data.size="
        )
    sizes = (known.classes, known.train, known.test, data.size or known.side, known.stored)
    return _as_given(sizes, data.channels, given, f"the published sizes of {recipe.dataset}")


def _as_given(
    known: tuple[int, int, int, int, int], channels: int, given: dict[str, int], source: str
) -> Sizes:
    classes, train, test, side, stored = known
    return Sizes(
        given.get("classes", classes),
        given.get("train", train),
        given.get("test", test),
        (channels, side, side),
        stored,
        source,
    )
