"""LPLD's label pool: which labelling batches are kept, and which of them an epoch of training sees.

Of E epochs of B batches, floor(keep E B) batches are kept: the first ones as released (``first``), or a
seeded choice among all (``random``). A last batch that is short counts only where nothing is pruned.

An epoch of training sees B of the kept batches: drawn uniformly with replacement (``draw``, LPLD's; the batch
before a short one takes its place), drawn without replacement from a pool that is filled again when it is
empty (``once``, LPQLD's), or in turn (``cycle``, which without pruning is epoch after epoch).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.seeds import generator

Choice = Literal["first", "random"]


@dataclass(frozen=True)
class LabelPool:
    """The labelling batches that are kept.

    Args:
        batch: samples of a labelling batch.
        epochs: number of epochs, before pruning.
        keep: share of the batches that is kept, in (0, 1]; 1 keeps the short ones too.

    Raises:
        InputError: keep is out of range, or so small that nothing would be left.
    """

    samples: int
    batch: int
    epochs: int
    _: KW_ONLY
    keep: float = 1.0
    choice: Choice = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError(f"labels.keep must be a share in (0, 1], got {self.keep}")
        if not self.kept:
            raise InputError(
                f"labels.keep {self.keep} of {self.epochs} epochs of {self.samples} samples in batches of "
                f"{self.batch} leaves no batch; raise keep, or use smaller batches"
            )

    @property
    def candidates(self) -> int:
        """Number of batches of an epoch that may be kept: with pruning only full ones, if there are any."""
        return -(-self.samples // self.batch) if self.keep == 1 else max(1, self.samples // self.batch)

    @cached_property
    def kept(self) -> list[tuple[int, int]]:
        """(epoch, batch) of all kept batches, in order."""
        B = self.candidates
        count = int(self.keep * self.epochs * B + 1e-9)  # floor, but not one less where the product is whole
        if self.choice == "first" or self.keep == 1:
            numbers = range(count)
            return [divmod(number, B) for number in numbers]
        chosen = torch.randperm(self.epochs * B, generator=generator(self.seed, "pool"))[:count]
        return [divmod(number, B) for number in chosen.sort().values.tolist()]

    @cached_property
    def labelled(self) -> list[int]:
        """The epochs of which a batch is kept, in order."""
        return sorted({epoch for epoch, _ in self.kept})

    def groups(self, epoch: int) -> list[int]:
        """The kept batches of an epoch, in order."""
        return [b for e, b in self.kept if e == epoch]

    def rows(self, epoch: int) -> Tensor:
        """The kept rows of an epoch's labelling order, int64."""
        parts = [
            torch.arange(b * self.batch, min((b + 1) * self.batch, self.samples)) for b in self.groups(epoch)
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    @property
    def labels(self) -> int:
        """Number of kept labels."""
        return sum(min((b + 1) * self.batch, self.samples) - b * self.batch for _, b in self.kept)

    def draw(self, seed: int, epoch: int) -> list[tuple[int, int]]:
        """Draw an epoch of training as LPLD does: ``candidates`` of the kept batches, with replacement."""
        kept, B = self.kept, self.candidates
        drawn = torch.randint(len(kept), (B,), generator=generator(seed, "draw", epoch)).tolist()
        short = B - 1 if self.samples % self.batch else -1
        return [kept[max(0, i - 1)] if kept[i][1] == short and B > 1 else kept[i] for i in drawn]

    def once(self, seed: int, epoch: int) -> list[tuple[int, int]]:
        """Draw an epoch of training without replacement, from where the epoch before ended; each pass over
        the kept batches has an order of its own."""
        kept, B = self.kept, self.candidates
        passes = range(epoch * B // len(kept), ((epoch + 1) * B - 1) // len(kept) + 1)
        orders = [torch.randperm(len(kept), generator=generator(seed, "once", each)) for each in passes]
        start = epoch * B - passes[0] * len(kept)
        return [kept[i] for i in torch.cat(orders)[start : start + B].tolist()]

    def cycle(self, epoch: int) -> list[tuple[int, int]]:
        """Take an epoch of training from the kept batches in turn, from where the epoch before ended."""
        kept, B = self.kept, self.candidates
        return [kept[i % len(kept)] for i in range(epoch * B, (epoch + 1) * B)]
