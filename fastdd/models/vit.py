"""Vision transformers for small images."""

from __future__ import annotations

import re

from torch import nn

VITS = ("vit_small32", "vit_small64")


def vit(name: str, num_classes: int, channels: int) -> nn.Module:
    """A small VisionTransformer by one of its names."""
    from torchvision.models import VisionTransformer

    side = int(re.sub(r"\D", "", name))
    network = VisionTransformer(side, side // 8, 6, 3, 192, 384, num_classes=num_classes)
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, 192, side // 8, side // 8)
    return network
