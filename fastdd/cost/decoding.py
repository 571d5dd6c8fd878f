"""How long images take to decode."""

from __future__ import annotations

import math
import time

import torch
from torchvision.io import encode_jpeg

from ..data.decode import decode, fit
from .subject import Sizes

SECONDS_AN_IMAGE, SECONDS_A_PIXEL = 40e-6, 8.5e-9
"""of one core of an EPYC with libjpeg-turbo, for an image and for each of its pixels, with the resize; see
fastdd/data/decode.py"""


def assumed(sizes: Sizes) -> float:
    """Core seconds of an image on another machine."""
    return SECONDS_AN_IMAGE + SECONDS_A_PIXEL * sizes.stored


def measured(sizes: Sizes, seconds: float = 0.1) -> float:
    """Core seconds of an image on this machine: a JPEG file of as many pixels, 4:3 unless it is small."""
    side = round(math.sqrt(sizes.stored))
    small = sizes.stored <= 224 * 224
    height, width = (
        (side, side) if small else (round(side * math.sqrt(3) / 2), round(side * 2 / math.sqrt(3)))
    )
    rows = torch.linspace(0, 20, height)[:, None] + torch.linspace(0, 30, width)
    image = (127 + 90 * rows.sin()).to(torch.uint8).expand(3, -1, -1).contiguous()
    data = bytearray(encode_jpeg(image, 90).numpy().tobytes())
    number, begin = 0, time.process_time()
    while time.process_time() - begin < seconds or number < 2:
        fit(decode(data, 3), sizes.shape[1:])
        number += 1
    return (time.process_time() - begin) / number
