"""Views: what happens to every sample of a distilled set in every epoch; soft labels are keyed by them.

A view is a window that is cut out of the stored image and resized, a flip, and the partner, ratio and box of a
mixture. Those of a whole epoch are drawn at once from (seed, epoch); row i of every draw belongs to sample i, so a
sample has the same view whatever batch, order, worker or machine asks for it. A partner is shown in its own view of
the same epoch.

The labelling batches (groups) of an epoch are consecutive rows of its order, the last one smaller where need be; a
sample's partner is in its group. ``mix_per: batch`` gives a group one ratio and one box, as the SRe2L family does;
``sample`` draws them for each sample.

Cost: 45 ms of processor time for an epoch of 50,000 samples with windows and partners, 9 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from fastdd_kernels import resample_parameters

from ..errors import InputError
from ..runtime.seeds import generator

FKD_SEED, FKD_PERMUTATIONS = 42, 2


@dataclass(frozen=True)
class Augmentation:
    """How views are drawn.

    Args:
        size: (H, W) of the stored images, in pixels, which is that of the views too.
        scale: range of the window's share of the area; None: no resizing.
        ratio: range of the window's width / height.
        pad: without scale: windows of the image's own size out of the image with so many pixels of the mean color
            around it.
        flip: probability of a horizontal flip.
        mix, mix_alpha: the ratio of a mixture is Beta(alpha, alpha).
        mix_per: who shares a ratio and a box.
        batch: samples of a group.
        order: seed: from (seed, epoch), in any order of epochs; fkd: the released loader's, which alone lets labels be
            exported in its layout (see fkd.py).

    Raises:
        InputError: pad and scale together, or a group of nothing.
    """

    size: tuple[int, int]
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    flip: float = 0.5
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: float = 1.0
    mix_per: Literal["batch", "sample"] = "batch"
    batch: int = 100
    order: Literal["seed", "fkd"] = "seed"

    def __post_init__(self) -> None:
        if self.pad and self.scale is not None:
            raise InputError(
                f"pad and scale are two kinds of crop, got pad {self.pad} and scale {list(self.scale)}"
            )
        if self.batch < 1:
            raise InputError(f"batch must be 1 or more samples, got {self.batch}")


@dataclass(frozen=True)
class Views:
    """What happened to some samples in an epoch; all tensors on the CPU.

    Attributes:
        epoch: of the views.
        ids: int64 [B], positions in the distilled set.
        groups: int64 [B], the labelling batch of each.
        pad: pixels of the mean color around an image before windows are cut.
        windows: int64 [B, 7] of fastdd_kernels.resample: flip, 0, 0, top, left, height, width, in pixels.
        partners: int64 [B], the positions of the samples that are mixed in; None: nothing is mixed.
        partner_windows: int64 [B, 7], the windows of those.
        ratios: float64 [B], the share of the sample itself.
        boxes: int64 [B, 4] of CutMix: top, bottom, left, right in the view; None: MixUp.
    """

    epoch: int
    ids: Tensor
    groups: Tensor
    pad: int
    windows: Tensor
    partners: Tensor | None = None
    partner_windows: Tensor | None = None
    ratios: Tensor | None = None
    boxes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: Tensor | slice) -> Views:
        """The views at some positions of this batch."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return Views(**values | {name: v[index] for name, v in values.items() if isinstance(v, Tensor)})

    def of(self, ids: Tensor) -> Views:
        """The views of some samples, in the order asked for.

        Raises:
            InputError: one of them has no view here.
        """
        return self.rows(self.find(ids))

    def find(self, ids: Tensor) -> Tensor:
        """Positions in this batch of some samples, int64 [len(ids)].

        Raises:
            InputError: one of them is not here.
        """
        order, known = self._sorted
        found = order[torch.searchsorted(known, ids).clamp(max=len(known) - 1)]
        if not torch.equal(self.ids[found], ids):
            absent = int(ids[self.ids[found] != ids][0])
            raise InputError(
                f"sample {absent} has no view in epoch {self.epoch}; ask for samples that were kept"
            )
        return found

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """The order by sample, and the samples in that order."""
        order = self.ids.argsort()
        return order, self.ids[order]

    def digest(self) -> str:
        """sha256 of everything, hex: equal where the views are equal."""
        content = hashlib.sha256(f"{self.epoch} {self.pad}".encode())
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                content.update(field.name.encode() + value.contiguous().numpy().tobytes())
        return content.hexdigest()


def draw_views(seed: int, epoch: int, samples: int, augmentation: Augmentation) -> Views:
    """The views of all samples in an epoch, in labelling order; ``.of(ids)`` gives those of some."""
    config, draw = augmentation, generator(seed, "views", epoch)
    windows = _windows(samples, config, draw)
    order = torch.randperm(samples, generator=draw)
    if config.order == "fkd":
        order = next(islice(fkd_orders(samples), epoch, None))
    groups = torch.arange(samples) // config.batch
    views = Views(epoch, order, groups, config.pad, windows[order])
    if config.mix == "none":
        return views
    shuffled = (
        groups + torch.rand(samples, dtype=torch.float64, generator=draw)
    ).argsort()  # within each group
    count = samples if config.mix_per == "sample" else -(-samples // config.batch)
    row = torch.arange(samples) if config.mix_per == "sample" else groups
    ratios = _ratios(count, config.mix_alpha, draw)
    boxes = _boxes(ratios, config.size, draw)[row] if config.mix == "cutmix" else None
    return mixed(views, shuffled, ratios[row], boxes)


def mixed(views: Views, shuffled: Tensor, ratios: Tensor, boxes: Tensor | None) -> Views:
    """Views of whole groups with partners.

    Args:
        shuffled: int64 [B], the row of each row's partner.
        ratios, boxes: as in Views.
    """
    return Views(
        views.epoch,
        views.ids,
        views.groups,
        views.pad,
        views.windows,
        views.ids[shuffled],
        views.windows[shuffled],
        ratios,
        boxes,
    )


def fkd_orders(samples: int, permutations: int = FKD_PERMUTATIONS) -> Iterator[Tensor]:
    """The orders of the released FKD loader, int64 [samples] an epoch: torch's RandomSampler with a generator of its
    own, seeded with 42, whose state runs on from epoch to epoch.

    Args:
        permutations: that are drawn an epoch, of which the first counts; 2 in versions of torch since 2022, 1 before.
    """
    draw = torch.Generator().manual_seed(FKD_SEED)
    while True:
        drawn = [torch.randperm(samples, generator=draw) for _ in range(permutations)]
        yield drawn[0]


def _windows(samples: int, config: Augmentation, draw: torch.Generator) -> Tensor:
    height, width = config.size
    if config.scale is not None:
        return resample_parameters(
            samples, height, width, config.scale, config.ratio, flip=config.flip, generator=draw
        )
    drawn = resample_parameters(samples, height, width, None, flip=config.flip, generator=draw)
    start = torch.randint(2 * config.pad + 1, (samples, 2), generator=draw)
    return torch.cat((drawn, start, torch.tensor([[height, width]]).expand(samples, 2)), dim=1)


def _ratios(count: int, alpha: float, draw: torch.Generator) -> Tensor:
    """Beta(alpha, alpha) as ratios of two gamma variables, float64 [count]."""
    gammas = torch._standard_gamma(torch.full((count, 2), alpha, dtype=torch.float64), generator=draw)
    return gammas[:, 0] / gammas.sum(1).clamp(min=torch.finfo(torch.float64).tiny)


def _boxes(ratios: Tensor, size: tuple[int, int], draw: torch.Generator) -> Tensor:
    """Boxes of share 1 - ratio around uniform centers, clipped to the image: int64 [count, 4]."""
    sides = torch.tensor(size)
    half = (sides * (1 - ratios).sqrt()[:, None]).long() // 2
    center = (torch.rand(len(ratios), 2, dtype=torch.float64, generator=draw) * sides).long()
    low, high = (center - half).clamp(min=0), torch.minimum(center + half, sides)
    return torch.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), dim=1)
