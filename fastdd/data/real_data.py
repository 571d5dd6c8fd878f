"""The real images of a run: its splits, opened once, read in the sizes and ways that the recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypedDict

import torch
from torch import Tensor

from ..config import Recipe
from ..errors import InputError
from ..runtime.console import counted
from ..runtime.progress import progress
from ..runtime.seeds import derive
from .check import scan
from .dataset import Dataset
from .loading.batch import Batch, Loader
from .loading.loader import open_loader
from .loading.resident import resident
from .open import open_dataset
from .sampling import real_sample, with_validation
from .sources.base import Split
from .sources.torch_dataset import give_datasets
from .sources.tree import some


def with_datasets(recipe: Recipe, data: tuple[object, object]) -> Recipe:
    """The recipe with torch Datasets in place of its ``data.root``, which this process alone can open.

    Args:
        data: the training and the test Dataset of (image, label).
    """
    root = {"root": give_datasets(data)}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=root)})


class RealData:
    """The splits of the data set of a recipe.

    With ``data.validation`` a part of the training images is a split of its own. No set is made from it;
    every choice looks at it, and so do students unless ``data.evaluate`` is ``test``.

    Attributes:
        train: training split, without the validation images. With ``data.on_error=skip`` it lacks the images
            that a scan found unreadable.
        validation_set: the validation images; None: the recipe withholds none.
        test_set: test split. With ``data.on_error=skip`` it lacks the unreadable ones, too.
        skipped: split -> what is wrong with each image that it lacks.
        chosen: the seeded choice of ``ipc`` training images a class: int64 positions in class order.
    """

    def __init__(self, config: Recipe, device: torch.device) -> None:
        self.config, self.data, self.device = config, config.data, device
        self.skipped: dict[str, list[str]] = {}
        self.train, self.test_set = self._open("train"), self._open("test")
        self._check_classes()
        self._check_sizes()
        self.validation_set: Dataset | None = None
        if self.data.validation is not None:
            split = with_validation(self.train, self.data.validation, self.data.validation_seed)
            self.train, self.validation_set = split
        self.chosen = self.choose(config.ipc)

    def _open(self, split: Split) -> Dataset:
        dataset = open_dataset(
            self.data.root, split, self.data.fingerprint, follow_links=self.data.follow_links
        )
        bad = dict(scan(dataset)) if self.data.on_error == "skip" else {}
        if bad:
            self.skipped[split] = list(bad.values())
        sizes = list(dataset.reader.sizes.items())
        if self.data.size is None and len(sizes) > 1:
            ((height, width), first), ((other_height, other_width), other) = sizes[:2]
            raise InputError(
                f"images differ in size: {first!r} of {split} is {height} x {width} pixels, {other!r} is "
                f"{other_height} x {other_width}; set data.size"
            )
        return dataset.without(bad) if bad else dataset

    def _check_classes(self) -> None:
        train, test = self.train.classes, self.test_set.classes
        if train != test:
            raise InputError(
                f"{self.data.root}: the training images have {counted(len(train), 'class')} and the test "
                "images "
                f"{len(test)}; only one of them has {some(sorted(set(train) ^ set(test)))}, but both need "
                "the same classes"
            )

    def _check_sizes(self) -> None:
        """Refuse splits whose first images differ in size, where images are kept as stored."""
        if self.data.size is not None:
            return
        (_, height, width), (_, other_height, other_width) = self.shape, self._shape_of(self.test_set)
        if (height, width) != (other_height, other_width):
            raise InputError(
                f"{self.data.root}: images differ in size: {self.train.names[0]!r} of train is {height} x "
                f"{width} pixels, {self.test_set.names[0]!r} of test is {other_height} x {other_width}; set "
                "data.size"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return self.train.classes

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of images after resizing; None: images are kept as stored."""
        return None if self.data.size is None else (self.data.size, self.data.size)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image after resizing."""
        return self._shape_of(self.train)

    def _shape_of(self, dataset: Dataset) -> tuple[int, int, int]:
        """(C, H, W) of the first image of a split after resizing."""
        loader = open_loader(dataset, 1, self.size, self.data.channels, indices=[0], backend="torchvision")
        channels, height, width = loader.shape
        return channels, height, width

    def images(
        self, dataset: Dataset, indices: Tensor | None = None, *, is_shown: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Decode a split, or some positions of it: uint8 [N, C, H, W] and int64 labels [N], on the device.

        Args:
            is_shown: whether a progress bar tells how many are read.
        """
        held = resident(
            dataset,
            self.size,
            self.data.channels,
            resize=self.data.resize,
            indices=indices,
            device=self.device,
            backend=self.data.backend,
            is_shown=is_shown,
        )
        return held.images, held.labels

    def batches(self, dataset: Dataset, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """What ``images`` gives of a split, in batches of ``count``, the last one smaller; more are never
        held."""
        loader = open_loader(
            dataset,
            count,
            self.size,
            self.data.channels,
            resize=self.data.resize,
            backend=self.data.backend,
            device=self.device,
        )
        with progress(f"read {dataset.split}", len(dataset)) as bar:
            for batch in loader:
                yield batch.images, batch.labels
                bar.advance(len(batch.images))

    def first_images(self, count: int) -> Tensor:
        """The first training images, uint8 [count, C, H, W] on the CPU, for a look at what takes them."""
        loader = open_loader(
            self.train,
            count,
            self.size,
            self.data.channels,
            resize=self.data.resize,
            indices=list(range(min(count, len(self.train)))),
            backend="torchvision",
        )
        return next(iter(loader)).images

    @property
    def splits(self) -> list[Dataset]:
        """All splits: the training images, the validation images where there are some, the test images."""
        return [split for split in (self.train, self.validation_set, self.test_set) if split is not None]

    @property
    def choice_set(self) -> Dataset:
        """The images that choices look at: the validation images, or the test images where there are none."""
        return self.test_set if self.validation_set is None else self.validation_set

    @property
    def evaluation_set(self) -> Dataset:
        """The images that students are tested on."""
        return self.test_set if self.data.evaluate == "test" else self.choice_set

    @property
    def evaluated_on(self) -> Literal["validation", "test"]:
        """Which images students are tested on."""
        return "test" if self.evaluation_set is self.test_set else "validation"

    @cached_property
    def choice(self) -> tuple[Tensor, Tensor]:
        """Images and labels that choices look at (see ``images``)."""
        return self.evaluation if self.choice_set is self.evaluation_set else self.images(self.choice_set)

    @cached_property
    def evaluation(self) -> tuple[Tensor, Tensor]:
        """Images and labels that students are tested on (see ``images``)."""
        return self.images(self.evaluation_set)

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Images and labels of the test split (see ``images``)."""
        return self.evaluation if self.evaluation_set is self.test_set else self.images(self.test_set)

    def choose(self, count: int) -> Tensor:
        """Draw ``count`` training images a class by the recipe's seed; larger draws begin with smaller."""
        return real_sample(self.train, count, derive(self.config.seed, "real"))

    def stream(self) -> TrainingImages:
        """The training images as the bank reads them: in class order, any part of them."""

        def loader(positions: range) -> Loader:
            return open_loader(
                self.train,
                self.config.bank.batch,
                self.size,
                self.data.channels,
                resize=self.data.resize,
                indices=positions,
                on_error=self.data.on_error,
                backend=self.data.backend,
                device=self.device,
            )

        train = self.train
        transform: Transform = {
            "size": list(self.shape[1:]),
            "resize": self.data.resize,
            "backend": loader(range(0)).backend,
        }
        return TrainingImages(
            shape=self.shape,
            labels=train.labels,
            names=train.names,
            fingerprint=train.fingerprint,
            transform=transform,
            stream=loader,
        )


class Transform(TypedDict, total=False):
    """What was done to images before the teacher sees them, as a bank's manifest has it.

    Attributes:
        resize: shorter side in pixels before the center was cut out; None: whatever just covers the size.
        backend: name and version of the decoder.
    """

    size: list[int]
    resize: int | None
    backend: str


@dataclass(frozen=True)
class TrainingImages:
    """The training images as the bank reads them.

    Attributes:
        labels: int64 [N], ascending.
        names: names of the images, for the list of those that were skipped.
        transform: what is done to the images, for the bank's manifest.
        stream: reads a range of positions, in order, in batches of ``bank.batch``.
    """

    shape: tuple[int, int, int]
    labels: Tensor
    names: Sequence[str]
    fingerprint: str
    transform: Transform
    stream: Callable[[range], Iterable[Batch]]
