"""MixUp and CutMix: one ratio, one permutation and one box a batch, as the SRe2L family does it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["none", "mixup", "cutmix"]


def mix(
    images: Tensor, targets: Tensor | None, kind: Kind, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Mix a batch with a permutation of itself.

    Args:
        images: [N, C, H, W].
        targets: [N, classes] stored logits, mixed with the same ratio, or None.
        alpha: the ratio is Beta(alpha, alpha). CutMix keeps the drawn ratio for the targets, whatever
            the border clips off the box, as the released code does.
    """
    if kind == "none":
        return images, targets
    ratio = _beta(alpha, generator)
    order = torch.randperm(len(images), generator=generator).to(images.device)
    if targets is not None:
        targets = ratio * targets + (1 - ratio) * targets[order]
    if kind == "mixup":
        return ratio * images + (1 - ratio) * images[order], targets
    top, bottom, left, right = _box(images.shape[2], images.shape[3], ratio, generator)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    return mixed, targets


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Beta(alpha, alpha) as a ratio of two gamma variables, from the generator's stream."""
    a, b = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return a / (a + b)


def _box(height: int, width: int, ratio: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A box of share 1 - ratio around a uniform center, clipped to the image."""
    h, w = int(height * math.sqrt(1 - ratio)), int(width * math.sqrt(1 - ratio))
    y = int(torch.randint(height, (), generator=generator))
    x = int(torch.randint(width, (), generator=generator))
    return max(0, y - h // 2), min(height, y + h // 2), max(0, x - w // 2), min(width, x + w // 2)
