"""How the work is cut into batches, which the method defines, and units, which fill the machine.

A *batch* is what a method optimizes together: k classes times s slots (``ClassSlots``). Global statistics
span a batch, class statistics the s images of one class in it. A *unit* holds several batches of one shape,
each with statistics of its own. The teacher is frozen and Adam works element by element, so a unit gives the
same images as its batches one after another. A unit is saved whole or not at all.

INFER (UFC) optimizes one offset u [1, C, H, W] that images of all classes share, instead of images:

    x = real + u,   Adam on u from zeros,   one u for each slot and each of M teachers

It charges each class 1 / C of an offset's storage, so IPC images a class pay for n = int(IPC / (M / C + 1))
untouched real images (slots 0 to n - 1) and, for teacher m = 1 ... M, the same images with that teacher's
offsets (slots m n to m n + n - 1). Students see n (M + 1) images a class, about M + 1 times IPC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..config import BatchSize, Method
from ..errors import InputError


class UnitError(InputError):
    """The images or a value of one unit became NaN or infinite; other units are unaffected."""


Rows = Sequence[tuple[int, int]]
"""(class, slot) of each image; a slot is the number of an image within its class"""


@dataclass(frozen=True)
class ClassSlots:
    """A method's batch: the images of these slots of these classes; its first class and slot identify it."""

    classes: tuple[int, ...]
    slots: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.classes), len(self.slots)


@dataclass(frozen=True)
class Unit:
    """Batches of one shape, optimized together.

    Attributes:
        part: 0 for images without an offset, m for images with an offset of the m-th teacher.
    """

    index: int
    batches: tuple[ClassSlots, ...]
    part: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batches, classes a batch, slots a batch)"""
        return (len(self.batches), *self.batches[0].shape)

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(class, slot) of each image, batch by batch, class by class."""
        return [(c, s) for batch in self.batches for c in batch.classes for s in batch.slots]

    def parts(self, images: int) -> list[Unit]:
        """The unit in parts of whole classes, of at most so many images unless a class has more."""
        if len(self.rows) <= images:
            return [self]
        return [
            replace(self, batches=(ClassSlots(batch.classes[start : start + together], batch.slots),))
            for batch in self.batches
            for together in [max(1, images // len(batch.slots))]
            for start in range(0, len(batch.classes), together)
        ]

    @staticmethod
    def up_to(batch: ClassSlots) -> list[ClassSlots]:
        """The batches of the same slots with lower classes, then the batch itself."""
        size = len(batch.classes)
        return [
            ClassSlots(tuple(range(first, first + size)), batch.slots)
            for first in range(0, batch.classes[0] + 1, size)
        ]

    @property
    def groups(self) -> list[int]:
        """The class of each group of rows that class statistics span: batch by batch, class by class."""
        return [c for batch in self.batches for c in batch.classes]


def _blocks(count: int, size: int) -> list[tuple[int, ...]]:
    return [tuple(range(start, min(start + size, count))) for start in range(0, count, size)]


def plan(
    num_classes: int, ipc: int, batch: BatchSize, unit_images: int, *, one_block: bool = False
) -> list[Unit]:
    """All units of a distilled set: slot block after slot block, and in each, class block after class block.

    Args:
        batch: classes and slots of a batch; the last batches are smaller where these do not divide the set.
        unit_images: largest number of images in a unit, which holds at least one batch.
        one_block: whether all batches of a unit have the same slots.
    """
    classes = _blocks(num_classes, num_classes if batch.classes == "all" else batch.classes)
    slots = _blocks(ipc, ipc if batch.slots == "all" else batch.slots)
    batches = [ClassSlots(c, s) for s in slots for c in classes]
    units: list[Unit] = []
    in_order = sorted(batches, key=lambda b: b.shape, reverse=True)
    for ((k, s), _), same in groupby(in_order, key=lambda b: (b.shape, b.slots if one_block else None)):
        together, alike = max(1, unit_images // (k * s)), list(same)
        for start in range(0, len(alike), together):
            units.append(Unit(len(units), tuple(alike[start : start + together])))
    return units


def first_slots(ipc: int, classes: int, teachers: int) -> int:
    """Untouched real images n a class, for a method with offsets."""
    slots = ipc * classes // (classes + teachers)  # floats would round a whole quotient down
    if slots == 0:
        raise InputError(
            f"ipc {ipc} leaves no image a class beside the offsets of {teachers} teachers over {classes} "
            f"classes; method.offset needs ipc of at least {-(-(classes + teachers) // classes)}"
        )
    return slots


def real_slots(method: Method, ipc: int, classes: int, teachers: int) -> int:
    """Initial images a class: IPC, with formations all inside them, with offsets the untouched ones."""
    formed = 1 if method.formation is None else method.formation.images
    return formed * ipc if method.offset is None else first_slots(ipc, classes, teachers)


def seen_slots(method: Method, ipc: int, classes: int, teachers: int) -> int:
    """Images a class that students see: IPC, with formations all inside them, with offsets n (M + 1)."""
    slots = real_slots(method, ipc, classes, teachers)
    return slots if method.offset is None else slots * (teachers + 1)


def all_units(method: Method, ipc: int, classes: int, teachers: int, *, unit_images: int) -> list[Unit]:
    """All units of a method; with offsets they come teacher after teacher, and none mixes two."""
    if method.offset is None:
        # A perturbed teacher belongs to one batch, so its unit holds no other.
        slots = real_slots(method, ipc, classes, teachers)
        size, one_block = 1 if method.perturb else unit_images, method.ensemble_per == "slot"
        return plan(classes, slots, method.batch, size, one_block=one_block)
    slots = first_slots(ipc, classes, teachers)
    found: list[Unit] = []
    for part in range(teachers + 1):
        for unit in plan(classes, slots, method.batch, unit_images):
            batches = tuple(
                ClassSlots(b.classes, tuple(slot + part * slots for slot in b.slots)) for b in unit.batches
            )
            found.append(replace(unit, index=len(found), batches=batches, part=part))
    return found
