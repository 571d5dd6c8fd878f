"""How a file of labels holds views: epoch after epoch, in the smallest dtypes that hold their values.

view/window uint8|int16 [n, 4] (top, left, height, width)     view/flip uint8 [ceil(n / 8)], a bit each
view/id, view/group, view/partner int32 [n]                   view/ratio float64 [n]   view/box int16 [n, 4]
"""

from __future__ import annotations

import torch
from torch import Tensor

from .views import Views, mix_in

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
