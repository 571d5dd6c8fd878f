"""INFER (UFC): one offset u [1, C, H, W] that images of all classes share, instead of images.

    x = real + u,   Adam on u from zeros,   one u for each slot and each of M teachers

Of an offset's cost the method counts a part 1 / C to each class, so IPC images a class are

    n = int(IPC / (M / C + 1))

untouched real images (slots 0 to n - 1) and, for teacher m = 1 ... M, the same with that teacher's offsets (slots m n
to m n + n - 1): n (M + 1) stored images a class. The set that students see is M + 1 times as large as IPC says.
"""

from __future__ import annotations

from dataclasses import replace

from .. import recipe
from ..errors import InputError
from .plan import Batch, Unit, plan


def first_slots(ipc: int, classes: int, teachers: int) -> int:
    """Untouched real images a class.

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


def real_slots(method: recipe.Method, ipc: int, classes: int, teachers: int) -> int:
    """Images a class that start from one of their own: IPC, of formations all, with offsets the untouched ones."""
    formed = 1 if method.formation is None else method.formation.images
    return formed * ipc if method.offset is None else first_slots(ipc, classes, teachers)


def seen_slots(method: recipe.Method, ipc: int, classes: int, teachers: int) -> int:
    """Images a class that students see: IPC, but for offsets, as many as above, and formations."""
    slots = real_slots(method, ipc, classes, teachers)
    return slots if method.offset is None else slots * (teachers + 1)


def all_units(method: recipe.Method, ipc: int, classes: int, teachers: int, unit_images: int) -> list[Unit]:
    """All units of a method; with offsets, those of a teacher after those of the one before, and none holds two's."""
    if method.offset is None:
        # A perturbed teacher belongs to one batch, so its unit holds no other.
        slots = real_slots(method, ipc, classes, teachers)
        return plan(classes, slots, method.batch, 1 if method.perturb else unit_images)
    slots = first_slots(ipc, classes, teachers)
    found: list[Unit] = []
    for part in range(teachers + 1):
        for unit in plan(classes, slots, method.batch, unit_images):
            batches = tuple(Batch(b.classes, tuple(slot + part * slots for slot in b.slots)) for b in unit.batches)
            found.append(replace(unit, index=len(found), batches=batches, part=part))
    return found
