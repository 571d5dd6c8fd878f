"""What a rule chooses from: the real images, whose embeddings the bank has, or candidates from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from ...bank import Bank
from ...data import Dataset
from ...errors import InputError
from ...teachers import ImageScores
from .rded import Decode

CHUNK = 256
"""candidates embedded together"""


class Pool(Protocol):
    """Images by class, which a rule ranks."""

    def positions(self, c: int) -> Tensor:
        """Positions [n] in their data set of a class's images, int64, ascending."""

    def embeddings(self, c: int, who: str) -> Tensor:
        """The teacher's embeddings [n, D] of these images; ``who`` ranks them, for messages."""

    def scores(self, c: int, kind: str) -> Tensor:
        """How hard these images were to learn, by a rule of BY_SCORE: float32 [n], larger is harder."""


@dataclass(frozen=True)
class RealPool:
    """The real images of a run.

    Attributes:
        names: names of all training images, in class order.
        noted: what a training has noted of all training images; None: no rule ranks by it.
    """

    bank: Bank
    names: Sequence[str]
    noted: ImageScores | None = None

    def positions(self, c: int) -> Tensor:
        """Positions in the training set of a class's images, without those that the bank could not read."""
        ends = [0, *accumulate(self.bank.manifest["images"])]
        skipped = set(self.bank.manifest["skipped"])
        return torch.tensor(
            [i for i in range(ends[c], ends[c + 1]) if not skipped or self.names[i] not in skipped]
        )

    def embeddings(self, c: int, who: str) -> Tensor:
        """The embeddings that the bank has.

        Raises:
            InputError: the bank lacks some.
        """
        kept, images = self.bank.manifest["embeddings"][c], len(self.positions(c))
        if kept != images:
            raise InputError(
                f"{who} ranks all images of a class, but the bank {self.bank.path} holds {kept} "
                f"embeddings of the {images} images of {self.bank.classes[c]!r}; build it with "
                "bank.embeddings=all"
            )
        return self.bank.embeddings(c)

    def scores(self, c: int, kind: str) -> Tensor:
        """What the rule takes of the notes: the mean error, minus the mean margin, or how often forgotten."""
        assert self.noted is not None  # the caller reads them for these rules
        of_all = {"el2n": self.noted.error, "forgetting": self.noted.forgetting}
        hardness = of_all[kind]() if kind in of_all else -self.noted.margin()
        return hardness[self.positions(c)]


@dataclass(frozen=True)
class CandidatePool:
    """Labelled images from elsewhere, which the teacher embeds when a rule asks.

    Attributes:
        dataset: the images under the classes of the run.
        decode: reads them as the run reads real images.
        embed: uint8 images [n, C, H, W] -> the teacher's embeddings [n, D].
    """

    dataset: Dataset
    decode: Decode
    embed: Callable[[Tensor], Tensor]

    def positions(self, c: int) -> Tensor:
        """Positions among the candidates of a class's images."""
        first = sum(self.dataset.counts[:c])
        return torch.arange(first, first + self.dataset.counts[c])

    def embeddings(self, c: int, who: str) -> Tensor:
        """The teacher's embeddings of all candidates of a class, on the CPU."""
        parts = self.positions(c).split(CHUNK)
        return torch.cat([self.embed(self.decode(part, 1)).float().cpu() for part in parts])

    def scores(self, c: int, kind: str) -> Tensor:
        """No training has noted anything of candidates, so the recipe refuses such rules for them."""
        raise AssertionError(kind)


@dataclass(frozen=True)
class FirstImages:
    """The first images of each class of another pool, as CIM chooses from.

    Attributes:
        count: how many of a class; fewer where it has fewer.
    """

    pool: Pool
    count: int

    def positions(self, c: int) -> Tensor:
        return self.pool.positions(c)[: self.count]

    def embeddings(self, c: int, who: str) -> Tensor:
        return self.pool.embeddings(c, who)[: self.count]

    def scores(self, c: int, kind: str) -> Tensor:
        return self.pool.scores(c, kind)[: self.count]
