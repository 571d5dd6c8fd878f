"""Show views: stored images, cut, resized, flipped and mixed as their views say.

Labels and students see images through this one function, so a stored label belongs to the pixels that a student sees.
A partner that is in the batch anyhow is not computed twice. Windows of an image's own size are a gather, exact on
every device; others are one matrix product a side (fastdd_kernels.resample).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fastdd_kernels import resample

from ..data.loading.augment import shifted_and_flipped
from .views import Views

Prepare = Callable[[Tensor], Tensor]


def show(images: Tensor, views: Views, prepare: Prepare | None = None) -> Tensor:
    """Views of images of a set.

    Args:
        images: the whole set [N, C, H, W], normalized (so that zero is the mean color), unless prepare does that.
        views: of some of its samples; their partners need not be among them.
        prepare: the teacher's ``normalize``, for a set that is kept as uint8.

    Returns:
        [B, C, H, W], channels-last, on the device of images.
    """
    own = _cut(images, prepare, views.ids, views.windows, views.pad)
    if views.partners is None or views.partner_windows is None:
        return own
    order = views.ids.argsort()
    place = order[torch.searchsorted(views.ids[order], views.partners).clamp(max=len(views) - 1)]
    away = views.ids[place] != views.partners
    if away.any():
        others = _cut(images, prepare, views.partners[away], views.partner_windows[away], views.pad)
        source = torch.cat((own, others))
        place[away] = len(own) + torch.arange(len(others))
    else:
        source = own
    return mix(own, source[place.to(own.device)], views)


def mix(own: Tensor, partners: Tensor, views: Views) -> Tensor:
    """Mix each image with its partner: [B, C, H, W] of both, by the ratios and boxes of the views.

    CutMix keeps the drawn ratio, whatever the border clips off the box; the pixels alone count, labels are of those.
    """
    assert views.ratios is not None
    if views.boxes is None:
        ratio = views.ratios.to(own.device)[:, None, None, None]
        return ratio.to(own.dtype) * own + (1 - ratio).to(own.dtype) * partners
    top, bottom, left, right = (side[:, None] for side in views.boxes.to(own.device).unbind(1))
    rows, columns = (torch.arange(side, device=own.device) for side in own.shape[2:])
    down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return torch.where((down[:, :, None] & across[:, None, :])[:, None], partners, own)


def _cut(images: Tensor, prepare: Prepare | None, ids: Tensor, windows: Tensor, pad: int) -> Tensor:
    chosen, size = images[ids.to(images.device)], (images.shape[2], images.shape[3])
    chosen = chosen if prepare is None else prepare(chosen)
    if bool((windows[:, 5:] == torch.tensor(size)).all()):
        return shifted_and_flipped(chosen, pad, windows[:, 3:5], windows[:, 0] != 0)
    padded = F.pad(chosen, (pad,) * 4) if pad else chosen
    return resample(padded, windows.to(images.device), size).contiguous(memory_format=torch.channels_last)


def pil_views(images: Tensor, views: Views) -> Tensor:
    """Views before mixing exactly as the released FKD reader has them: cut and resized by PIL, bilinear, in uint8.

    Args:
        images: the whole set, uint8 [N, C, H, W] with 1 or 3 channels.
        views: without padding.

    Returns:
        uint8 [B, C, H, W]. Cost: a PIL call an image; ``show`` differs from it by rounding to whole levels.
    """
    height, width = images.shape[2:]
    seen = []
    for i, (flip, _, _, top, left, h, w) in zip(views.ids.tolist(), views.windows.tolist(), strict=True):
        levels = images[i].cpu().permute(1, 2, 0).numpy()
        image = Image.fromarray(levels if levels.shape[2] == 3 else levels[:, :, 0])
        image = image.crop((left, top, left + w, top + h)).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1)
        seen.append(pixels.flip(2) if flip else pixels)
    return torch.stack(seen)
