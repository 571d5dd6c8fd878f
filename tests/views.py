"""Views of a small random set, sample by sample with torchvision, as their description has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from fastdd.labels import Augmentation, draw_views

N, SIZE = 23, 16
CUTMIX = Augmentation((SIZE, SIZE), scale=(0.08, 1.0), mix="cutmix", batch=8)
SHIFT = Augmentation((SIZE, SIZE), pad=3, mix="mixup", mix_alpha=0.8, mix_per="sample", batch=8)


def random_images() -> Tensor:
    """uint8 [N, 3, SIZE, SIZE]."""
    return torch.randint(
        256, (N, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def one_by_one(images: Tensor, how: Augmentation, epoch: int, seed: int = 5) -> dict[int, Tensor]:
    """Every view from its description, sample by sample, with torchvision."""
    views = draw_views(seed, epoch, N, how)
    cut = {}
    for sample, (flip, _, _, top, left, h, w) in zip(views.ids.tolist(), views.windows.tolist(), strict=True):
        image = F.pad(images[sample], (how.pad,) * 4)[:, top : top + h, left : left + w]
        image = T.resize(image, [SIZE, SIZE], antialias=True)
        cut[sample] = T.horizontal_flip(image) if flip else image
    if views.partners is None or views.ratios is None:
        return cut
    mixed = {}
    for row, (sample, partner) in enumerate(zip(views.ids.tolist(), views.partners.tolist(), strict=True)):
        ratio, image = float(views.ratios[row]), cut[sample].clone()
        if views.boxes is None:
            image = ratio * image + (1 - ratio) * cut[partner]
        else:
            top, bottom, left, right = views.boxes[row].tolist()
            image[:, top:bottom, left:right] = cut[partner][:, top:bottom, left:right]
        mixed[sample] = image
    return mixed
