"""Whether compiling an arm's steps pays: what the compiler takes, once a shape, against what each image then saves.

Measured on two AVX2 cores with all statistics on: a step takes 0.7 of the time of the plain one, about a millisecond
less for each megabyte that an image's forward pass keeps, and the compiler takes a minute and more. So the work is
weighed in bytes: images x steps x bytes kept. It is counted on the whole arm, so that who does which unit, and whether
a run is resumed, changes nothing. On a GPU nothing was measured, and nothing is compiled unasked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ..config import Method, Recover
from ..teachers import Taps
from .early_late import iterations, rounds_of
from .memory import bytes_per_image
from .plan import Unit

WORTH = 120e9
"""bytes of a shape from which on compiling pays; half of it would do on an idle machine"""


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile needs on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def compiles(
    config: Recover, method: Method, units: Sequence[Unit], taps: Sequence[Taps], shape: tuple[int, int, int]
) -> bool:
    """What ``recover.compile`` means for an arm.

    Args:
        units: all of the arm.
        taps: of all teachers that speak.
        shape: (C, H, W) of an image.
    """
    if config.compile != "auto":
        return config.compile
    device = next(taps[0].parameters()).device
    if device.type != "cpu" or not has_compiler():
        return False
    shapes = {part.unit.shape for unit in units for part in rounds_of(method, unit)}
    work = sum(iterations(method, unit) for unit in units) / max(1, len(shapes))
    return work * bytes_per_image(taps[0], shape, config.precision) > WORTH * len(taps)
