"""How the work is cut: batches, as the method means them, and units, as the machine likes them.

A *batch* is what a method optimises together: k classes times s slots. Global statistics span a batch, class
statistics the s images of one class in it. A *unit* holds several batches of one shape with grouped
statistics: the teacher is frozen and Adam works element by element, so that gives the same images as one batch
after another, and fills the machine. Units are the atom of saving and resuming.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from .. import recipe


@dataclass(frozen=True)
class Batch:
    """k classes x s slots; its first class and slot identify it."""

    classes: tuple[int, ...]
    slots: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.classes), len(self.slots)


@dataclass(frozen=True)
class Unit:
    """Batches of one shape, optimised together.

    part: of a set with offsets (offset.py), 0 for untouched images, m for those with an offset of the m-th teacher.
    """

    index: int
    batches: tuple[Batch, ...]
    part: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batches, classes a batch, slots a batch)"""
        return (len(self.batches), *self.batches[0].shape)

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(class, slot) of each image, batch by batch, class by class."""
        return [(c, s) for batch in self.batches for c in batch.classes for s in batch.slots]

    @staticmethod
    def earlier(batch: Batch) -> list[Batch]:
        """The batches of its slots with lower classes, and the batch itself, last."""
        size = len(batch.classes)
        return [Batch(tuple(range(first, first + size)), batch.slots) for first in range(0, batch.classes[0] + 1, size)]

    @property
    def groups(self) -> list[int]:
        """The class of each run of a batch's slots: the groups of class statistics."""
        return [c for batch in self.batches for c in batch.classes]


def _blocks(count: int, size: int) -> list[tuple[int, ...]]:
    return [tuple(range(start, min(start + size, count))) for start in range(0, count, size)]


def plan(num_classes: int, ipc: int, batch: recipe.Batch, unit_images: int) -> list[Unit]:
    """All units of a distilled set: slot block after slot block, and in each, class block after class block.

    Args:
        batch: classes and slots a batch; a last, smaller block is kept as it is.
        unit_images: images a unit, at most; a unit holds at least one batch.
    """
    classes = _blocks(num_classes, num_classes if batch.classes == "all" else batch.classes)
    slots = _blocks(ipc, ipc if batch.slots == "all" else batch.slots)
    batches = [Batch(c, s) for s in slots for c in classes]
    units: list[Unit] = []
    for (k, s), same in groupby(sorted(batches, key=lambda b: b.shape, reverse=True), key=lambda b: b.shape):
        together, alike = max(1, unit_images // (k * s)), list(same)
        for start in range(0, len(alike), together):
            units.append(Unit(len(units), tuple(alike[start : start + together])))
    return units
