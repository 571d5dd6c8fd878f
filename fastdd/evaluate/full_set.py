"""The reference beside a set: students of the whole real training set, with the same work as the set's own.

It is the ceiling for that much work, where the work is enough to learn from many images at all.

An epoch of theirs has as many images as the set: the next ones of shuffled passes over the real images. So steps,
batches, learning rates and test passes are those of the set's students, and only the images differ. Where those have
stored labels the teacher labels online, for stored ones would have to be made for all real images. A student is shown
steps x batch images, so no more than that are decoded: a seeded choice, of each class its share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from ..config import Student
from ..data import proportional_sample
from ..data.real_data import RealData
from ..errors import InputError
from ..protocols import images_seen
from ..runtime.distributed import world_size
from ..runtime.memory import device_budget
from ..runtime.seeds import derive


@dataclass(frozen=True)
class FullSet:
    """The real training images that students of the whole set learn from.

    Attributes:
        real: the real images.
        config: settled protocol of the set.
        size: images of the set, hence of an epoch.
        seed: of the choice of images.
    """

    real: RealData
    config: Student
    size: int
    seed: int

    @cached_property
    def chosen(self) -> Tensor:
        """int64 positions in the training split, ascending; all where students are shown that many."""
        shown = images_seen(self.config, self.size)
        return proportional_sample(self.real.train, shown, derive(self.seed, "full set"))

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """uint8 images and int64 classes of those chosen, on the device; decoded when first asked for."""
        return self.real.images(self.real.train, self.chosen)

    @property
    def title(self) -> str:
        """What the students are of, and that their labels are not the protocol's where they are not."""
        return "whole training set, same steps" + (
            ", online labels" if self.config.labels == "stored" else ""
        )

    def left_out(self, wanted: bool | Literal["auto"]) -> str | None:
        """Why there are no such students; None where there are.

        Args:
            wanted: True, False, or auto: if the images fit into memory, once for each process that trains them.

        Raises:
            InputError: True, but the images do not fit.
        """
        if wanted is False:
            return "it was not asked for"
        copies = 1 if self.real.device.type == "cuda" else min(world_size(), self.config.seeds)
        needed = copies * len(self.chosen) * math.prod(self.real.shape)
        budget = device_budget(self.real.device)
        if needed <= budget:
            return None
        if wanted is True:
            raise InputError(
                f"{needed:,} bytes are needed to hold {len(self.chosen):,} images of the whole training set, but "
                f"{budget:,} may be used; set metrics.full_set to auto or false, or a smaller data.size"
            )
        return f"{len(self.chosen):,} of its images do not fit into memory"
