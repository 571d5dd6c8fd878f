"""INFER (UFC): one offset u [1, C, H, W] that images of all classes share, instead of images.

    x = real + u,   Adam on u from zeros,   one u for each slot and each of M teachers

Of an offset's cost the method counts a part 1 / C to each class, so IPC images a class are

    n = int(IPC / (M / C + 1))

untouched real images (slots 0 to n - 1) and, for teacher m = 1 ... M, the same with that teacher's offsets (slots m n
to m n + n - 1): n (M + 1) stored images a class. The set that students see is M + 1 times as large as IPC says.
"""

from __future__ import annotations

from ..errors import InputError


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
