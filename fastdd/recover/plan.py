"""How the work is cut: batches, as the method means them, and units, as the machine likes them.

A *batch* is what a method optimizes together: k classes times s slots. Global statistics span a batch, class
statistics the s images of one class in it. A *unit* holds several batches of one shape with grouped
statistics: the teacher is frozen and Adam works element by element, so that gives the same images as one batch
after another, and fills the machine. Units are the atom of saving and resuming.

INFER (UFC) optimizes one offset u [1, C, H, W] that images of all classes share, instead of images:

    x = real + u,   Adam on u from zeros,   one u for each slot and each of M teachers

It charges each class 1 / C of an offset's storage, so IPC images a class are n = int(IPC / (M / C + 1)) untouched real
images (slots 0 to n - 1) and, for teacher m = 1 ... M, the same with that teacher's offsets (slots m n to m n + n - 1):
n (M + 1) stored images a class. The set that students see is M + 1 times as large as IPC says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from ..config import Batch as BatchConfig
from ..config import Method
from ..errors import InputError


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
    """Batches of one shape, optimized together.

    part: of a set with offsets 0 for untouched images, m for those with an offset of the m-th teacher.
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
        return [
            Batch(tuple(range(first, first + size)), batch.slots)
            for first in range(0, batch.classes[0] + 1, size)
        ]

    @property
    def groups(self) -> list[int]:
        """The class of each run of a batch's slots: the groups of class statistics."""
        return [c for batch in self.batches for c in batch.classes]


def _blocks(count: int, size: int) -> list[tuple[int, ...]]:
    return [tuple(range(start, min(start + size, count))) for start in range(0, count, size)]


def plan(num_classes: int, ipc: int, batch: BatchConfig, unit_images: int) -> list[Unit]:
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


def first_slots(ipc: int, classes: int, teachers: int) -> int:
    """Untouched real images of a class, n, of a method with offsets.

    Raises:
        InputError: there would be none.
    """
    slots = ipc * classes // (classes + teachers)  # in integers, for the quotient may be whole
    if slots == 0:
        raise InputError(
            f"ipc {ipc} leaves no image a class beside the offsets of {teachers} teachers over {classes} classes; "
            f"method.offset needs ipc of at least {-(-(classes + teachers) // classes)}"
        )
    return slots


def real_slots(method: Method, ipc: int, classes: int, teachers: int) -> int:
    """Images a class that start from one of their own: IPC, of formations all, with offsets the untouched ones."""
    formed = 1 if method.formation is None else method.formation.images
    return formed * ipc if method.offset is None else first_slots(ipc, classes, teachers)


def seen_slots(method: Method, ipc: int, classes: int, teachers: int) -> int:
    """Images a class that students see: IPC, but for offsets, as many as above, and formations."""
    slots = real_slots(method, ipc, classes, teachers)
    return slots if method.offset is None else slots * (teachers + 1)


def all_units(method: Method, ipc: int, classes: int, teachers: int, unit_images: int) -> list[Unit]:
    """All units of a method; with offsets, those of a teacher after those of the one before, and none holds two's."""
    if method.offset is None:
        # A perturbed teacher belongs to one batch, so its unit holds no other.
        slots = real_slots(method, ipc, classes, teachers)
        return plan(classes, slots, method.batch, 1 if method.perturb else unit_images)
    slots = first_slots(ipc, classes, teachers)
    found: list[Unit] = []
    for part in range(teachers + 1):
        for unit in plan(classes, slots, method.batch, unit_images):
            batches = tuple(
                Batch(b.classes, tuple(slot + part * slots for slot in b.slots)) for b in unit.batches
            )
            found.append(replace(unit, index=len(found), batches=batches, part=part))
    return found
