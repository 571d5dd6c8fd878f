"""Statistics of single images, channel by channel and patch by patch, summed up by class: what G-VBSM and EDC match.

An image has a mean m_i and a variance v_i over its pixels (or over a patch's pixels and channels). Of a class the bank
keeps three rows of numbers a layer,

    mean = E m_i        within = E v_i        between = Var m_i        over its n images

EDC's category statistics are (mean, within). What was gathered over all classes follows: with the total between-image
variance S^2 = E between + Var mean over the classes, the variance over all pixels of all images is E within + S^2, and
that of the released code, an average of the variances of J shuffled mini-batches, is in the mean over all orders

    E within + S^2 (N - J) / (N - 1)

So nothing depends on the order of the images, and mini-batches of 64 lack 1 / 64 of the variance between images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import All
from ..teachers import Features
from .row_buffer import Rows


class Spread(NamedTuple):
    """Statistics of the images of k classes, each [k, D] float32."""

    mean: Tensor
    within: Tensor
    """mean over the images of the variance inside an image"""
    between: Tensor
    """variance of the images' means"""


class ImageStatistics:
    """The images of one class seen so far.

    Args:
        shifts: layer -> what its mean square is about, [channels], or None for 0; a name ``conv.<i>`` has patches too.
    """

    def __init__(self, shifts: dict[str, Tensor | None]) -> None:
        self.shifts = {f"{layer}/image": shift for layer, shift in shifts.items()}
        self.shifts |= {f"{layer}/patch": None for layer in shifts if layer.startswith("conv.")}
        self.held = {name: Rows() for name in self.shifts}  # [n, 2, D]

    def add(self, features: Features, rows: slice | Tensor) -> None:
        """Take the rows of this class from a batch."""
        for name, held in self.held.items():
            layer, _, kind = name.partition("/")
            mean, mean_square = (features.moments if kind == "image" else features.patches)[layer]
            held.add(torch.stack((mean[rows], mean_square[rows]), dim=1))

    def close(self, order: Tensor) -> dict[str, Tensor]:
        """``<layer>/image_mean``, ``_within``, ``_between`` and ``<layer>/patch_...`` [1, D], of the rows in order."""
        statistics: dict[str, Tensor] = {}
        for name, held in self.held.items():
            mean, mean_square = held.all().cpu()[order].double().unbind(1)
            shift = self.shifts[name]
            within = mean_square - (mean if shift is None else mean - shift.cpu().double()).square()
            spread = Spread(mean.mean(0), within.mean(0), mean.var(0, correction=0))
            statistics |= {f"{name}_{key}": value[None].float() for key, value in spread._asdict().items()}
        return statistics


def over_all(spread: Spread, counts: Sequence[int], batch: int | All) -> tuple[Tensor, Tensor]:
    """Mean and variance over the images of all classes.

    Args:
        spread: of all classes.
        counts: their images.
        batch: images of a mini-batch, the variances of which are averaged; "all": one variance over everything.

    Returns:
        (mean [D], variance [D]) float32.
    """
    total = sum(counts)
    share = torch.tensor(counts, dtype=torch.float64)[:, None] / total
    means, within, between = (value.cpu().double() for value in spread)
    mean = (share * means).sum(0)
    between = (share * (between + (means - mean).square())).sum(0)
    batches = 1 if batch == "all" else -(-total // batch)
    part = (total - batches) / max(total - 1, 1)
    return mean.float(), ((share * within).sum(0) + part * between).float()
