"""Render views: cut, resize, flip and mix stored images as their views say.

Teachers and students see images through ``render_views``, so a stored label belongs to the pixels that a
student sees. A partner that is itself in the batch is computed once. A window of the image's own size costs a
gather, exact on every device; any other window costs one matrix product a side (fastdd_kernels.resample).
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

Normalize = Callable[[Tensor], Tensor]


def render_views(images: Tensor, views: Views, normalize: Normalize | None = None) -> Tensor:
    """Render views of a set's images.

    Args:
        images: the whole set [N, C, H, W]; normalized (so that zero is the mean color), or uint8 with
            ``normalize``.
        views: views of some samples; their partners need not be among them.
        normalize: the teacher's ``normalize``, for a set that is kept as uint8; None: it is normalized.

    Returns:
        [B, C, H, W], on the device of images.
    """
    own = _cut(images, normalize, views.ids, views.windows, pad=views.pad)
    if views.partners is None or views.partner_windows is None:
        return own
    order = views.ids.argsort()
    place = order[torch.searchsorted(views.ids[order], views.partners).clamp(max=len(views) - 1)]
    away = views.ids[place] != views.partners
    if away.any():
        others = _cut(images, normalize, views.partners[away], views.partner_windows[away], pad=views.pad)
        source = torch.cat((own, others))
        place[away] = len(own) + torch.arange(len(others))
    else:
        source = own
    return mix_views(own, source[place.to(own.device)], views)


def mix_views(own: Tensor, partners: Tensor, views: Views) -> Tensor:
    """Mix each image with its partner, by the ratios (MixUp) or boxes (CutMix) of their views.

    Args:
        own: [B, C, H, W], the rendered views before mixing.
        partners: [B, C, H, W], the rendered views of their partners.
    """
    if views.boxes is None:
        assert views.ratios is not None  # MixUp has ratios
        ratio = views.ratios.to(own.device)[:, None, None, None]
        return ratio.to(own.dtype) * own + (1 - ratio).to(own.dtype) * partners
    top, bottom, left, right = (side[:, None] for side in views.boxes.to(own.device).unbind(1))
    rows, columns = (torch.arange(side, device=own.device) for side in own.shape[2:])
    down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return torch.where((down[:, :, None] & across[:, None, :])[:, None], partners, own)


def _cut(images: Tensor, normalize: Normalize | None, ids: Tensor, windows: Tensor, *, pad: int) -> Tensor:
    chosen, size = images[ids.to(images.device)], (images.shape[2], images.shape[3])
    chosen = chosen if normalize is None else normalize(chosen)
    if bool((windows[:, 5:] == torch.tensor(size)).all()):
        return shifted_and_flipped(chosen, pad, windows[:, 3:5], windows[:, 0] != 0)
    padded = F.pad(chosen, (pad,) * 4) if pad else chosen
    return resample(padded, windows.to(images.device), size)


def render_views_with_pil(images: Tensor, views: Views) -> Tensor:
    """Render views, before mixing, exactly as the released FKD reader does: with PIL, bilinear, in uint8.

    Args:
        images: the whole set, uint8 [N, C, H, W] with 1 or 3 channels.
        views: views without padding.

    Returns:
        uint8 [B, C, H, W]. Cost: a PIL call an image; ``render_views`` does not round to whole levels.
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
