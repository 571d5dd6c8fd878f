"""Whether BatchNorm finds several images in every batch of a protocol; told before hours of work, not after."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..config import Student
from ..errors import InputError


def smallest_batch(images: int, batch: int) -> int:
    """Images of the smallest batch of an epoch: what the others leave over, or all of one batch."""
    return images % batch or min(batch, images)


def require_statistics(config: Student, networks: Mapping[str, nn.Module], smallest: int) -> None:
    """Refuse batches that BatchNorm cannot normalize, of networks in train mode.

    Args:
        networks: by what a message calls them.
        smallest: images of the smallest batch.

    Raises:
        InputError: one image in a batch or in a part of one.
    """
    part = min(len(part) for part in torch.empty(smallest).chunk(config.accumulate))
    for name, network in networks.items():
        normalizes = (
            m.training and isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()
        )
        if part == 1 and any(normalizes):
            raise InputError(
                f"{name} has BatchNorm, whose statistics need several images, but with student.batch={config.batch} "
                f"and student.accumulate={config.accumulate} a batch of this set has a single one; choose a batch that "
                "leaves no single image over, or a student without BatchNorm, such as convnet3"
            )
