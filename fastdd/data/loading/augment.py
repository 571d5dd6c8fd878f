"""Augmentation of a resident batch on its device: random shift (crop after padding), random window, flip.

One gather or two matrix products for the whole batch, one draw an image; no Python loop, no per-image calls.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_and_flip(images: Tensor, pad: int, flip: float, generator: torch.Generator) -> Tensor:
    """Crop each image at a random place after padding it with zeros, and flip some.

    Args:
        images: [N, C, H, W], normalized (so that zero is the mean color).
        pad: largest shift in pixels, in either direction.
        flip: probability of a horizontal flip.
        generator: on the CPU; draws do not depend on the device.
    """
    shift = torch.randint(0, 2 * pad + 1, (len(images), 2), generator=generator)
    flipped = torch.rand(len(images), generator=generator) < flip
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
