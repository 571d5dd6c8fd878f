"""How many images fit into the memory, and whether compiling an arm's steps pays.

The free memory bounds the images that are optimized at once: each keeps the tensors of its forward pass.
Compiling costs a minute or more for each shape of unit and then saves time on every image. Measured on two
AVX2 cores with all statistics on, a compiled step takes 0.7 of the plain step's time, about a millisecond
less for each megabyte that an image's forward pass keeps. So the work is measured in bytes: images x steps x
bytes kept. It is counted over the whole arm, so that neither the number of processes nor a resumed run
changes the decision. GPUs were not measured, so ``auto`` compiles nothing there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import Method, Precision, Recover
from ..models.build import as_input
from ..runtime.memory import memory_budget
from ..runtime.precision import autocast
from ..teachers import Taps
from .plan import Unit
from .steps import iterations, rounds_of

GPU_SHARE = 0.7
"""share of a GPU's free memory that a unit may take"""
MOST_IMAGES = 1000
"""largest number of images in a unit; more images fill no machine better"""
BYTES_WORTH_COMPILING = 120e9
"""work in bytes for each shape of unit from which on compiling pays; on an idle machine half of it would
do"""


def bytes_per_image(taps: Taps, shape: tuple[int, int, int], precision: Precision) -> int:
    """Bytes that one image's forward pass keeps for its backward pass; gradients need about as much again.

    They are counted on the tensors that autograd saves in a pass of one image, each storage once.
    """
    device = next(taps.parameters()).device
    weights = {parameter.untyped_storage().data_ptr() for parameter in (*taps.parameters(), *taps.buffers())}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    image = as_input(torch.zeros(1, *shape, device=device), taps).requires_grad_()
    kept = []  # keeps all tensors alive until they are counted, or a storage's address could come twice
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(device, precision):
        kept.append(taps(image))
    return sum(seen.values())


def images_that_fit(taps: Taps, shape: tuple[int, int, int], precision: Precision, most: int) -> int:
    """Number of images whose step fits into the free memory, from 1 to ``most``."""
    device = next(taps.parameters()).device
    free = GPU_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_budget()
    return max(1, min(most, MOST_IMAGES, int(free / (2 * bytes_per_image(taps, shape, precision)))))


def has_compiler() -> bool:
    """Whether the C++ compiler that torch.compile needs on a CPU is installed."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def compiles(
    config: Recover,
    method: Method,
    units: Sequence[Unit],
    taps: Sequence[Taps],
    *,
    shape: tuple[int, int, int],
) -> bool:
    """Whether an arm's steps are compiled: ``recover.compile``, where ``auto`` depends on the work.

    Args:
        config: the recover section of the recipe.
        method: the arm's method.
        units: all units of the arm.
        taps: all teachers that the arm uses.
        shape: (C, H, W) of an image.
    """
    if config.compile != "auto":
        return config.compile
    device = next(taps[0].parameters()).device
    if device.type != "cpu" or not has_compiler():
        return False
    shapes = {part.unit.shape for unit in units for part in rounds_of(method, unit)}
    work = sum(iterations(method, unit) for unit in units) / max(1, len(shapes))
    return work * bytes_per_image(taps[0], shape, config.precision) > BYTES_WORTH_COMPILING * len(taps)
