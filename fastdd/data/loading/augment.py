"""Augmentation of a resident batch on its device: random shift (crop after padding), random window, flip.

One gather or two matrix products for the whole batch, one draw an image; no Python loop, no per-image calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fastdd_kernels import siamese_draws

from ...config.base import SiameseOperation


def siamese_rows(
    count: int,
    size: Sequence[int],
    *,
    always: Sequence[SiameseOperation] = (),
    one_of: Sequence[SiameseOperation] = (),
    draw: torch.Generator,
) -> Tensor:
    """The Siamese augmentation of a training batch, with parameters an image.

    Args:
        one_of: operations of which all images have one more, drawn with equal probabilities.

    Returns:
        Rows of ``siamese_augment``, float64 [count, 13]; [0, 13] without operations.
    """
    height, width = size
    operations = list(always)
    if one_of:
        operations.append(one_of[int(torch.randint(len(one_of), (), generator=draw))])
    if not operations:
        return siamese_draws(0, height, width)
    return siamese_draws(count, height, width, operations, together=True, generator=draw)


def shift_and_flip(
    images: Tensor,
    pad: int,
    flip: float,
    generator: torch.Generator,
    *,
    rows: slice = slice(None),
    of: int | None = None,
) -> Tensor:
    """Crop each image at a random place after padding it with zeros, and flip some.

    Args:
        images: [N, C, H, W], normalized (so that zero is the mean color).
        pad: largest shift in pixels, in either direction.
        rows: which rows of a batch the images are, where other processes have the others.
        of: images of that batch, for all of which is drawn; None: the images are the whole batch.
    """
    count = len(images) if of is None else of
    shift = torch.randint(0, 2 * pad + 1, (count, 2), generator=generator)[rows]
    flipped = torch.rand(count, generator=generator)[rows] < flip
    return shifted_and_flipped(images, pad, shift, flipped)


def shifted_and_flipped(images: Tensor, pad: int, shift: Tensor, flipped: Tensor) -> Tensor:
    """Crop each image at a given place after padding it with zeros, and flip some.

    Args:
        images: [N, C, H, W], normalized.
        pad: zeros on each side, in pixels.
        shift: int64 [N, 2], top left of each crop in the padded image.
        flipped: bool [N], which images are mirrored.
    """
    N, C, H, W = images.shape
    rows = shift[:, :1] + torch.arange(H)  # [N, H] in the padded image
    columns = shift[:, 1:] + torch.arange(W)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    n, c = torch.arange(N)[:, None, None, None], torch.arange(C)[None, :, None, None]
    index = (n, c, rows[:, None, :, None], columns[:, None, None, :])
    return padded[tuple(i.to(images.device) for i in index)]


def crop_and_flip(images: Tensor, windows: Tensor) -> Tensor:
    """Crop a window of each image, resize it to the size of the image, and flip some.

    Args:
        images: uint8 [N, C, H, W].
        windows: integers [N, 7] of fastdd_kernels.resample_parameters, one row an image.

    Returns:
        uint8 [N, C, H, W], rounded to the nearest level.
    """
    from fastdd_kernels import resample

    return resample(images.float(), windows).round_().clamp_(0, 255).to(torch.uint8)


def mix_batch(
    images: Tensor,
    targets: Tensor | None,
    kind: Literal["none", "mixup", "cutmix"],
    *,
    alpha: float,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Mix a batch with a permutation of itself.

    Args:
        images: [N, C, H, W].
        targets: [N, classes], mixed with the same ratio; None: there are none.
        alpha: the ratio is Beta(alpha, alpha). CutMix mixes the targets with the drawn ratio even where the
            border clips the box, as the released code does.
    """
    if kind == "none":
        return images, targets
    a, b = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=draw).tolist()
    ratio = a / (a + b)  # Beta(alpha, alpha), from this generator
    order = torch.randperm(len(images), generator=draw).to(images.device)
    if targets is not None:
        targets = ratio * targets + (1 - ratio) * targets[order]
    if kind == "mixup":
        return ratio * images + (1 - ratio) * images[order], targets
    top, bottom, left, right = _box(images.shape[2], images.shape[3], ratio, draw)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    return mixed, targets


def _box(height: int, width: int, ratio: float, draw: torch.Generator) -> tuple[int, int, int, int]:
    """Draw a box of share 1 - ratio, clipped to the image: top, bottom, left, right."""
    h, w = int(height * math.sqrt(1 - ratio)), int(width * math.sqrt(1 - ratio))
    y = int(torch.randint(height, (), generator=draw))
    x = int(torch.randint(width, (), generator=draw))
    return max(0, y - h // 2), min(height, y + h // 2), max(0, x - w // 2), min(width, x + w // 2)
