"""Real images that a blend takes anew: the nearest of the class, after RETA (stages.py).

Nearness is the Euclidean distance of the teacher's embeddings: those of the images as they are by then, at
full size, to those of all real images of the class, which the bank holds. Only the chosen images are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor

from .init.pools import Pool
from .init.rded import Decode
from .plan import Unit

Starts = Callable[[int], Tensor]
"""class -> positions in the training set that its slots started from, int64 [k, slots]"""


@dataclass
class NearestImages:
    """The real images that the slots of one unit are blended with, one after another blend.

    Attributes:
        decode: reads training images as the run does.
        starts: what slots started from, where none is to have the image of another slot; None: several may
            have one image.
        owners: group of rows (a class in a batch) -> position in the training set -> the slot that has it.
    """

    unit: Unit
    _: KW_ONLY
    pool: Pool
    decode: Decode
    starts: Starts | None
    owners: dict[int, dict[int, int]] = field(init=False, default_factory=dict)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """The images for the unit's embeddings [N, D]: uint8 [N, C, H, W]."""
        return self.decode(self.choose(embeddings), 1)

    def choose(self, embeddings: Tensor) -> Tensor:
        """The positions in the training set, int64 [N]; of equally near images the first.

        With ``starts``, slots choose in their order, and none takes what another slot of the class started
        from or another slot of the batch has had. Where a class has no other image left, all may be taken.
        """
        chosen: list[int] = []
        slots = [slot for batch in self.unit.batches for _ in batch.classes for slot in batch.slots]
        size = self.unit.shape[2]
        for group, rows in enumerate(embeddings.double().cpu().split(size)):
            c = self.unit.groups[group]
            positions, real = self.pool.positions(c), self.pool.embeddings(c, "residual.anchor").double()
            distances = torch.cdist(rows, real, compute_mode="donot_use_mm_for_euclid_dist")
            if self.starts is None:
                chosen += positions[distances.argmin(1)].tolist()
                continue
            owners = self.owners.setdefault(group, self._at_start(c))
            for slot, each in zip(slots[group * size :], distances, strict=False):
                others = torch.tensor([position for position, owner in owners.items() if owner != slot])
                taken = torch.isin(positions, others)
                each = each if taken.all() else each.masked_fill(taken, math.inf)
                chosen.append(int(positions[each.argmin()]))
                owners.setdefault(chosen[-1], slot)
        return torch.tensor(chosen)

    def _at_start(self, c: int) -> dict[int, int]:
        """The slot of each position that a class started from."""
        assert self.starts is not None  # the caller looks
        return {position: slot for row in self.starts(c).tolist() for slot, position in enumerate(row)}
