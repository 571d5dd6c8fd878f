"""What a step takes: how many images fit into the memory, and whether compiling an arm's steps pays.

As many images may be optimized at once as the free memory holds of what one image's step keeps. The compiler takes its
time once a shape, and then each image saves some. Measured on two AVX2 cores with all statistics on, a compiled step
takes 0.7 of the time of the plain one, about a millisecond less for each megabyte that an image's forward pass keeps,
and the compiler takes a minute and more. So the work is weighed in bytes: images x steps x bytes kept. It is counted on
the whole arm, so that who does which unit, and whether a run is resumed, changes nothing. On a GPU nothing was
measured, and nothing is compiled unasked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import Method, Precision, Recover
from ..runtime.memory import memory_budget
from ..runtime.precision import autocast
from ..teachers import Taps
from .plan import Unit
from .steps import iterations, rounds_of

SHARE = 0.7  # of a GPU's free memory
LARGEST = 1000  # images: more fill no machine better
WORTH = 120e9
"""bytes of a shape from which on compiling pays; half of it would do on an idle machine"""


def bytes_per_image(taps: Taps, shape: tuple[int, int, int], precision: Precision) -> int:
    """What the forward pass of one image keeps for its backward pass; gradients need about as much again.

    Counted on the tensors that autograd saves, each storage once, without running out of anything.
    """
    device = next(taps.parameters()).device
    weights = {parameter.untyped_storage().data_ptr() for parameter in (*taps.parameters(), *taps.buffers())}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    image = (
        torch.zeros(1, *shape, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    )
    kept = []  # alive until all are counted, or a storage's address could come twice
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(device, precision):
        kept.append(taps(image))
    return sum(seen.values())


def images_that_fit(taps: Taps, shape: tuple[int, int, int], precision: Precision, most: int) -> int:
    """Images whose step fits into the free memory, 1 to ``most``."""
    device = next(taps.parameters()).device
    free = SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_budget()
    return max(1, min(most, LARGEST, int(free / (2 * bytes_per_image(taps, shape, precision)))))


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile needs on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def compiles(
    config: Recover, method: Method, units: Sequence[Unit], taps: Sequence[Taps], shape: tuple[int, int, int]
) -> bool:
    """What ``recover.compile`` means for an arm.

    Args:
        units: all units of the arm.
        taps: those of all teachers that the arm uses.
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
