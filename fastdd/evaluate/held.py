"""What students hold of images in the memory of their device: one set, and what they are tested on.

Both are decoded, a byte a value. A step gathers images from anywhere in the set and a test passes over all
test images, so neither is read in parts. Sets follow each other, so the largest of a run's counts.
"""

from __future__ import annotations

import math

import torch

from ..runtime.memory import BUDGET, device_budget


def bytes_of_set(images: int, shape: tuple[int, int, int], per_file: int = 1) -> int:
    """Bytes of a set of images [C, H, W] while it is held; where several are in a file, the files count, too,
    of which images are unpacked."""
    files = images // per_file if per_file > 1 else 0
    return (images + files) * math.prod(shape)


def budget_of_sets(device: torch.device, tested: int) -> int:
    """Bytes that sets may take on a device now: a part of what is left beside the ``tested`` bytes of the
    images that students are tested on."""
    return max(0, device_budget(device) - int(BUDGET * tested))
