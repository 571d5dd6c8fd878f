"""How many images fit into the memory, and whether compiling an arm's steps pays.

On a GPU a unit is as large as fits, since each step launches the same kernels whatever the unit's size. An
image takes the tensors of its forward pass, about as much again for gradients, and ``STATE_BYTES``
for each of its numbers. On a CPU a unit of 100 images is as fast as a larger one.

Compiling costs a minute or more for each shape of unit and then saves time on every image. Measured on two
AVX2 cores with all statistics on, a compiled step takes 0.7 of the plain step's time, about a millisecond
less for each megabyte that an image's forward pass keeps. So the work is measured in bytes: images x steps x
bytes kept, for each shape of unit and size of its images. It is counted over the whole arm, so that neither
the number of processes nor a resumed run changes the decision. GPUs were not measured, so ``auto`` compiles
nothing there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import Method, Precision, Recover
from ..models.build import as_input
from ..runtime.distributed import world_size
from ..runtime.memory import free_device_memory, memory_budget
from ..runtime.precision import autocast
from ..teachers import Taps
from .plan import Unit
from .stages import share_of_work, sizes_of_steps
from .steps import iterations, rounds_of

GPU_SHARE = 0.7
"""share of a GPU's free memory that a unit may take"""
MOST_IMAGES = 1000
"""largest number of images in a unit on a GPU; more images fill none better"""
MOST_IMAGES_ON_CPU = 100
"""the same on a CPU"""
STATE_BYTES = 6 * 4
"""bytes of a number of an image in float32: the image, what augmentation makes of it, the gradients of both
and Adam's two moments"""
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


def images_that_fit(device: torch.device, each: int, total: int) -> int:
    """Images a unit whose step fits into the free memory, at least 1.

    On a CPU they are at most 100. On a GPU they are at most 1000, and so few that each process of torchrun
    has a unit.

    Args:
        each: bytes that a step takes for an image.
    """
    if device.type == "cuda":
        free = GPU_SHARE * free_device_memory(device)
        most = min(MOST_IMAGES, -(-total // world_size()))
    else:
        free, most = memory_budget(), MOST_IMAGES_ON_CPU
    return max(1, min(most, int(free // each)))


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
    """Whether an arm's steps are compiled: ``recover.compile``, where ``auto`` depends on the work."""
    if config.compile != "auto":
        return config.compile
    device = next(taps[0].parameters()).device
    if device.type != "cpu" or not has_compiler():
        return False
    shapes = {part.unit.shape for unit in units for part in rounds_of(method, unit)}
    graphs = len(shapes) * len(set(sizes_of_steps(method, shape[1:])))
    images = share_of_work(method, shape[1:]) * sum(iterations(method, unit) for unit in units)
    work = images / max(1, graphs)
    return work * bytes_per_image(taps[0], shape, config.precision) > BYTES_WORTH_COMPILING * len(taps)
