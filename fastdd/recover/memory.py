"""How many images may be optimized at once: the free memory over what one image's step keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Precision
from ..runtime.memory import memory_budget
from ..runtime.precision import autocast
from ..teachers import Taps

SHARE = 0.7  # of a GPU's free memory
LARGEST = 1000  # images: more fill no machine better


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
