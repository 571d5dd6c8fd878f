"""Stages of the steps: each has its size of the images and begins with a blend with real images (FADRM).

FADRM (Cui et al., NeurIPS 2025) divides T steps into R stages. Where stage r + 1 begins, the images x that
stage r left and real images P, one for each slot, give what it starts from:

    x <- alpha B(x) + (1 - alpha) B(P)        B: bilinear to the side s_(r+1) of the stage, not antialiased

The optimizer then starts anew, and the learning rate goes on over all steps. No blend follows the last stage.
With alpha = 1/2 and R = 4 images that do not move would be 7/8 real at the start of the last stage.

P are the images that the slots started from or, as RETA proposes (2602.24144), chosen anew at each blend: the
nearest of the class, by the Euclidean distance of the teacher's embeddings of the images as they are by then,
at full size, to those of all real images, which the bank holds. Only the chosen images are decoded. A step at
side s takes (s / S)^2 of the multiplications of a step at side S, since teachers are convolutions up to their
pooling; targets of terms remain those of images of side S. The draws of a step are made of the same random
numbers at any size, so methods that differ in their sizes alone see about the same crops. A roll is in pixels
at any size, as released.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import Method
from ..errors import InputError
from ..models.outline import SIDES, takes
from .init.pools import Pool
from .init.rded import Decode
from .plan import Unit
from .terms.base import term_class

Size = tuple[int, int]
"""(H, W) in pixels"""


@dataclass(frozen=True)
class Stage:
    """Consecutive steps at one size of the images.

    Attributes:
        side: side of the images in pixels; None: the size of the data.
    """

    number: int
    steps: range
    side: int | None

    def size(self, full: Size) -> Size:
        """(H, W) of the images, where those of the data have (H, W) ``full``."""
        return full if self.side is None else (self.side, self.side)


def stages_of(method: Method) -> list[Stage]:
    """The stages of a method in order; a method without any has one."""
    ends = method.stage_ends
    sides = [None] * method.stages if method.sizes is None else method.sizes
    return [Stage(r, range(ends[r], ends[r + 1]), side) for r, side in enumerate(sides)]


def sizes_of_steps(method: Method, full: Size) -> list[Size]:
    """(H, W) of the images at each step."""
    return [stage.size(full) for stage in stages_of(method) for _ in stage.steps]


def largest_size(method: Method, full: Size) -> Size:
    """(H, W) of the images in the stage where they are largest."""
    return max(stage.size(full) for stage in stages_of(method))


def share_of_work(method: Method, full: Size) -> float:
    """Multiplications of all steps, as a share of those of as many steps at full size."""
    if not method.steps:
        return 1.0
    height, width = full
    return sum(h * w for h, w in sizes_of_steps(method, full)) / (method.steps * height * width)


def multiply_adds(
    method: Method, forward: Callable[[int, Size], int], *, teachers: int, full: Size
) -> int | None:
    """Multiply-adds that the steps take for an image: two forward passes a teacher, since weights get no
    gradient; None for methods that compute more than that, or move some images longer than others.

    Args:
        forward: (number of a teacher, size) -> multiply-adds of its forward pass of an image.
        full: (H, W) of the data's images.
    """
    paired = any(term_class(name).paired for name in method.terms)
    if paired or method.match or method.offset or method.early_late or method.perturb:
        return None
    total = 0.0
    for step, size in enumerate(sizes_of_steps(method, full)):
        if method.ensemble == "first":
            total += forward(0, size)
        elif method.ensemble == "round_robin":
            total += forward(step % teachers, size)
        else:
            asked = teachers if method.ensemble == "all" else method.ensemble
            total += asked / teachers * sum(forward(number, size) for number in range(teachers))
    return round(2 * total)


def size_of(images: Tensor) -> Size:
    """(H, W) of images [N, C, H, W]."""
    return images.shape[2], images.shape[3]


def resized(images: Tensor, size: Size, *, antialias: bool = False) -> Tensor:
    """Images [N, C, H, W] at another size, bilinear without aligned corners; of that size as they are."""
    if size_of(images) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)


def check_stages(
    key: str, method: Method, networks: Sequence[str], num_classes: int, shape: tuple[int, int, int]
) -> None:
    """Refuse sizes that do not end at that of the data, or that a term or a teacher cannot take.

    Args:
        key: the recipe's key of the method, such as ``arms.fadrm``.
    """
    if method.sizes is None:
        return
    channels, height, width = shape
    if height != width or method.sizes[-1] != height:
        raise InputError(
            f"{key}.sizes ends with {method.sizes[-1]}, but the images are {height} x {width} pixels; "
            + (f"let it end with {height}" if height == width else "set sizes to null, which is for squares")
        )
    if not method.changes_size:
        return
    for name in method.terms:
        if term_class(name).one_size or term_class(name).paired:
            raise InputError(
                f"{key}.sizes changes the size of the images, but terms.{name} is for images of one size; "
                "set one of them to null"
            )
    for network in dict.fromkeys(networks):
        for side in sorted(set(method.sizes)):
            if takes(network, num_classes, (channels, side, side)):
                continue
            fits = [s for s in SIDES if side < s <= height and takes(network, num_classes, (channels, s, s))]
            raise InputError(
                f"{key}.sizes has {side}, but the teacher {network} cannot take images of "
                f"{side} x {side} pixels; give sizes of {fits[0] if fits else height} or more"
            )


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
