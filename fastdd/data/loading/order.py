"""Which images one pass reads, in which order: a function of the seed, the epoch and the shard alone.

Nothing is drawn while a pass runs, so an epoch and a position in it say everything about where it stands.
Cost: 8 bytes an image, and one permutation an epoch (10 ms for a million images).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError, suggestion
from ...runtime.seeds import generator

Order = Literal["class", "shuffled"]
ORDERS = ("class", "shuffled")


class Schedule:
    """The passes of one shard over some images of a dataset.

    Args:
        total: number of images in the dataset.
        chosen: positions in the dataset, in the order of reading; None: all.
        order: "class" keeps the order of ``chosen``; "shuffled" permutes it anew each epoch.
        seed: seed of the permutations.
        shard: (rank, world): the shards of all ranks are disjoint and together everything. A shard is a block
            of the class order, so that it cuts at most two classes, and every world-th image of a
            permutation.
        batch_size: images a batch, at least 1.
        drop_last: leave out what does not fill a batch.

    Raises:
        InputError: one of them is out of range.
    """

    def __init__(
        self,
        total: int,
        chosen: Sequence[int] | Tensor | None,
        order: Order,
        *,
        seed: int,
        shard: tuple[int, int],
        batch_size: int,
        drop_last: bool,
    ) -> None:
        rank, world = shard
        if not 0 <= rank < world:
            raise InputError(
                f"shard {shard!r} is not possible; expected (rank, world) with 0 <= rank < world"
            )
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is too small; expected at least 1")
        if order not in ORDERS:
            expected = "expected 'class' or 'shuffled'"
            raise InputError(f"order {order!r} is unknown{suggestion(str(order), ORDERS)}; {expected}")
        self.chosen = (
            torch.arange(total) if chosen is None else torch.as_tensor(chosen, dtype=torch.int64).cpu()
        )
        outside = self.chosen[(self.chosen < 0) | (self.chosen >= total)]
        if len(outside):
            raise InputError(
                f"image index {int(outside[0])} is outside of 0 to {total - 1}; give indices of this split"
            )
        self.order, self.seed, self.shard = order, seed, (rank, world)
        self.batch_size, self.drop_last = batch_size, drop_last

    def __len__(self) -> int:
        """Images of one pass."""
        (rank, world), n = self.shard, len(self.chosen)
        here = (
            n * (rank + 1) // world - n * rank // world
            if self.order == "class"
            else len(range(rank, n, world))
        )
        return here // self.batch_size * self.batch_size if self.drop_last else here

    def positions(self, epoch: int) -> Tensor:
        """int64 [len(self)] positions in the dataset, in the order of reading."""
        (rank, world), n = self.shard, len(self.chosen)
        if self.order == "class":
            here = self.chosen[n * rank // world :]
        else:
            permutation = torch.randperm(n, generator=generator(self.seed, "order", epoch))
            here = self.chosen[permutation[rank::world]]
        return here[: len(self)]
