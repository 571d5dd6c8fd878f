"""The reference beside a set: students of the whole real training set, with as much work as the set's own.

Their accuracy is the ceiling for that much work, where the work suffices to learn from many images at all.

An epoch of theirs has as many images as the set: the next ones of shuffled passes over the real images. So
steps, batches, learning rates and test passes are those of the set's students, and only the images differ.
Where the protocol has stored labels, the teacher labels online instead, because stored ones would be needed
for all real images. A student is shown steps x batch images, so no more than that are decoded: a seeded
choice with each class's share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..data import proportional_sample
from ..data.real_data import RealData
from ..errors import InputError
from ..protocols import SettledStudent
from ..runtime.distributed import world_size
from ..runtime.memory import BUDGET, device_budget
from ..runtime.seeds import derive


@dataclass(frozen=True)
class FullSet:
    """The whole real training set, or as much of it as students are shown.

    Attributes:
        config: the protocol of the distilled set's students; an epoch has as many images.
    """

    real: RealData
    config: SettledStudent
    seed: int

    @cached_property
    def chosen(self) -> Tensor:
        """int64 positions in the training split, ascending; all where students are shown that many."""
        return proportional_sample(self.real.train, self.config.images_seen, derive(self.seed, "full set"))

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """The chosen images, uint8, and their classes, int64, on the device; decoded anew, so keep them."""
        return self.real.images(self.real.train, self.chosen)

    @property
    def title(self) -> str:
        """The row's title, which tells where labels are not the protocol's."""
        return "whole training set, same steps" + (
            ", online labels" if self.config.labels == "stored" else ""
        )

    def left_out(self, wanted: bool | Literal["auto"]) -> str | None:
        """Why these students are left out; None: they are not.

        Args:
            wanted: whether they are asked for; auto: where the images fit into memory beside those that
                students are tested on, once for each process that trains such students.

        Raises:
            InputError: they are asked for, but the images do not fit.
        """
        if wanted is False:
            return "it was not asked for"
        copies = 1 if self.real.device.type == "cuda" else min(world_size(), self.config.seeds)
        needed = copies * bytes_of_set(len(self.chosen), self.real.shape)
        tested = copies * bytes_of_set(len(self.real.evaluation_set), self.real.shape)
        budget = budget_of_sets(self.real.device, tested)
        if needed <= budget:
            return None
        if wanted is True:
            raise InputError(
                f"{needed:,} bytes are needed to hold {len(self.chosen):,} images of the whole training set, "
                f"but {budget:,} may be used beside the test images; set metrics.full_set to auto or false, "
                "or a smaller data.size"
            )
        return f"{len(self.chosen):,} of its images do not fit into memory"


# -- memory ---------------------------------------------------------------------------------------

# Students hold one set at a time, and the images that they are tested on, decoded, a byte a value. A step
# gathers images from anywhere in the set and a test passes over all test images, so neither is read in parts.


def bytes_of_set(images: int, shape: tuple[int, int, int], per_file: int = 1) -> int:
    """Bytes of a set of images [C, H, W] while it is held; where several are in a file, the files count, too,
    of which images are unpacked."""
    files = images // per_file if per_file > 1 else 0
    return (images + files) * math.prod(shape)


def budget_of_sets(device: torch.device, tested: int) -> int:
    """Bytes that sets may take on a device now: a part of what is left beside the ``tested`` bytes of the
    images that students are tested on."""
    return max(0, device_budget(device) - int(BUDGET * tested))
