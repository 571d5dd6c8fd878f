"""Views: what a student sees of every sample of a distilled set in every epoch; soft labels belong to them.

A view is a window that is cut out of the stored image and resized, a flip, and the partner, ratio and box of
a mixture. The views of a whole epoch are drawn at once from (seed, epoch), and row i of every draw belongs to
sample i. So a sample has the same view whatever batch, order, worker or machine asks for it. A partner is
mixed in as its own view of the same epoch shows it.

A labelling batch, or group, is a run of rows in the order of an epoch; the last one may be smaller. A
sample's partner is in its group. With ``mix_per: batch`` a group shares one ratio and one box, as in the
SRe2L family; with ``sample`` every sample has its own.

Cost: 45 ms of processor time for an epoch of 50,000 samples with windows and partners, 9 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import cached_property
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from fastdd_kernels import resample_parameters

from ..errors import InputError
from ..runtime.seeds import generator

FKD_SEED = 42
"""seed of the released FKD loader's order"""
FKD_PERMUTATIONS = 2
"""permutations that torch's RandomSampler draws an epoch since 2022; before, it drew 1"""


@dataclass(frozen=True)
class Augmentation:
    """How views are drawn.

    Args:
        size: (H, W) of the stored images and of the views, in pixels.
        scale: range of a window's area as a share of the image's; None: windows are not resized.
        ratio: range of a window's width / height, with ``scale``.
        pad: without ``scale``, a window has the image's size and lies anywhere in the image with this many
            pixels of the mean color around it.
        mix: how a view is mixed with its partner.
        mix_alpha: the ratio of a mixture is Beta(alpha, alpha).
        mix_per: what shares a ratio and a box: a labelling batch, or nothing.
        batch: samples of a labelling batch.
        order: "seed", a permutation from (seed, epoch); "fkd", the released loader's order, in which labels
            can be exported without indices (fkd.py).

    Raises:
        InputError: pad and scale are both given, or a labelling batch has no samples.
    """

    size: tuple[int, int]
    _: KW_ONLY
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


@dataclass(frozen=True, kw_only=True)
class Views:
    """Views of some samples in an epoch; all tensors are on the CPU.

    Attributes:
        epoch: the epoch that the views belong to.
        ids: int64 [B], the samples, as positions in the distilled set.
        groups: int64 [B], the labelling batch of each.
        pad: pixels of the mean color around an image before windows are cut.
        windows: int64 [B, 7], rows of fastdd_kernels.resample: flip, 0, 0, top, left, height, width, in
            pixels.
        partners: int64 [B], the samples that are mixed in; None: nothing is mixed.
        partner_windows: int64 [B, 7], the partners' windows; None without partners.
        ratios: float64 [B], the share of the sample itself in the mixture; None without partners.
        boxes: int64 [B, 4], the box of CutMix in the view: top, bottom, left, right; None with MixUp.
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

    def select(self, index: Tensor) -> Views:
        """The views in some rows, given as positions or as a mask."""
        tensors = {name: tensor[index] for name, tensor in self._tensors().items()}
        return Views(epoch=self.epoch, pad=self.pad, **tensors)

    def of(self, ids: Tensor) -> Views:
        """The views of some samples, in the order asked for.

        Raises:
            InputError: a sample has no view here.
        """
        return self.select(self.find(ids))

    @classmethod
    def concatenate(cls, parts: Sequence[Views]) -> Views:
        """Join views of one epoch that have the same fields, one after the other."""
        tensors = [part._tensors() for part in parts]
        joined = {name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}
        return cls(epoch=parts[0].epoch, pad=parts[0].pad, **joined)

    def find(self, ids: Tensor) -> Tensor:
        """The rows of some samples, int64 [len(ids)].

        Raises:
            InputError: a sample has no view here.
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
        """The order that sorts the samples, and the sorted samples."""
        order = self.ids.argsort()
        return order, self.ids[order]

    def digest(self) -> str:
        """sha256 of all fields, hex: equal where the views are equal."""
        content = hashlib.sha256(f"{self.epoch} {self.pad}".encode())
        for name, tensor in self._tensors().items():
            content.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def _tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, in order; what is None is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def draw_views(seed: int, epoch: int, samples: int, augmentation: Augmentation) -> Views:
    """Draw the views of all samples in an epoch, in labelling order; ``.of(ids)`` gives those of some
    samples."""
    config, draw = augmentation, generator(seed, "views", epoch)
    windows = _windows(samples, config, draw)
    order = torch.randperm(samples, generator=draw)
    if config.order == "fkd":
        order = next(islice(fkd_orders(samples), epoch, None))
    groups = torch.arange(samples) // config.batch
    views = Views(epoch=epoch, ids=order, groups=groups, pad=config.pad, windows=windows[order])
    if config.mix == "none":
        return views
    within_groups = groups + torch.rand(samples, dtype=torch.float64, generator=draw)
    shuffled = within_groups.argsort()
    count = samples if config.mix_per == "sample" else -(-samples // config.batch)
    row = torch.arange(samples) if config.mix_per == "sample" else groups
    ratios = _ratios(count, config.mix_alpha, draw)
    boxes = _boxes(ratios, config.size, draw)[row] if config.mix == "cutmix" else None
    return mix_in(views, shuffled, ratios[row], boxes)


def mix_in(views: Views, rows: Tensor, ratios: Tensor, boxes: Tensor | None) -> Views:
    """Give views of whole groups their partners.

    Args:
        rows: int64 [B], the row of each row's partner.
    """
    return replace(
        views, partners=views.ids[rows], partner_windows=views.windows[rows], ratios=ratios, boxes=boxes
    )


def fkd_orders(samples: int, permutations: int = FKD_PERMUTATIONS) -> Iterator[Tensor]:
    """The orders of the released FKD loader, int64 [samples] an epoch.

    They are those of torch's RandomSampler with a generator that is seeded with 42 and runs on from epoch to
    epoch.

    Args:
        permutations: how many the sampler draws an epoch, the first of which counts: 2 since 2022, 1 before.
    """
    draw = torch.Generator().manual_seed(FKD_SEED)
    while True:
        drawn = [torch.randperm(samples, generator=draw) for _ in range(permutations)]
        yield drawn[0]


def _windows(samples: int, config: Augmentation, draw: torch.Generator) -> Tensor:
    height, width = config.size
    if config.scale is not None:
        return resample_parameters(
            samples, height, width, config.scale, ratio=config.ratio, flip=config.flip, generator=draw
        )
    drawn = resample_parameters(samples, height, width, None, flip=config.flip, generator=draw)
    start = torch.randint(2 * config.pad + 1, (samples, 2), generator=draw)
    return torch.cat((drawn, start, torch.tensor([[height, width]]).expand(samples, 2)), dim=1)


def _ratios(count: int, alpha: float, draw: torch.Generator) -> Tensor:
    """Draw Beta(alpha, alpha) as ratios of two gamma variables, float64 [count]."""
    gammas = torch._standard_gamma(torch.full((count, 2), alpha, dtype=torch.float64), generator=draw)
    return gammas[:, 0] / gammas.sum(1).clamp(min=torch.finfo(torch.float64).tiny)


def _boxes(ratios: Tensor, size: tuple[int, int], draw: torch.Generator) -> Tensor:
    """Draw boxes of share 1 - ratio around uniform centers, clipped to the image: int64 [count, 4]."""
    sides = torch.tensor(size)
    half = (sides * (1 - ratios).sqrt()[:, None]).long() // 2
    center = (torch.rand(len(ratios), 2, dtype=torch.float64, generator=draw) * sides).long()
    low, high = (center - half).clamp(min=0), torch.minimum(center + half, sides)
    return torch.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), dim=1)


# -- views in files of labels (files.py) -------------------------------------------------------------

BYTES = 37
"""bytes that a view takes at most"""
FLIP = "view/flip"
BITS = torch.arange(8, dtype=torch.uint8)


def flip_bytes(views: int) -> int:
    """How many bytes view/flip has for this many views of an epoch."""
    return -(-views // 8)


def pack_views(views: Views) -> dict[str, Tensor]:
    """Pack views into tensors; the file's name tells their epoch, the manifest their padding."""
    windows = views.windows[:, 3:]
    flips = views.windows[:, 0].to(torch.uint8)
    bits = torch.nn.functional.pad(flips, (0, -len(flips) % 8)).view(-1, 8) << BITS
    small = len(windows) == 0 or int(windows.max()) < 256
    packed = {
        "view/window": windows.to(torch.uint8 if small else torch.int16),
        FLIP: bits.sum(1).to(torch.uint8),
        "view/id": views.ids.int(),
        "view/group": views.groups.int(),
    }
    if views.partners is not None and views.ratios is not None:
        packed |= {"view/partner": views.partners.int(), "view/ratio": views.ratios}
    if views.boxes is not None:
        packed["view/box"] = views.boxes.to(torch.int16)
    return packed


def unpack_views(epoch: int, packed: dict[str, Tensor], pad: int) -> Views:
    """Undo pack_views. Partners are among the views, since whole labelling batches are kept."""
    ids, window = packed["view/id"].long(), packed["view/window"].long()
    flips = (packed[FLIP][:, None] >> BITS & 1).flatten()[: len(ids)].long()
    zero = torch.zeros_like(flips)
    windows = torch.cat((torch.stack((flips, zero, zero), dim=1), window), dim=1)
    views = Views(epoch=epoch, ids=ids, groups=packed["view/group"].long(), pad=pad, windows=windows)
    if "view/partner" not in packed:
        return views
    boxes = packed["view/box"].long() if "view/box" in packed else None
    return mix_in(views, views.find(packed["view/partner"].long()), packed["view/ratio"], boxes)
