"""The ConvNet of the matching methods (Gidaris and Komodakis, 2018; Zhao et al., 2021), and a small ViT.

``convnetD``: D blocks of 3x3 convolution with 128 channels, InstanceNorm with affine parameters, ReLU and 2x2 average
pooling, and a linear layer over the 4 x 4 pixels that are left: for 32 pixels D is 3 (320,010 parameters with 10
classes), for 64 it is 4, for 8 it is 1. ``convnetD_bn`` has BatchNorm instead, as RDED and G-VBSM have it.

``vit_small32``, ``vit_small64``: torchvision's VisionTransformer with 64 patches, 6 layers of 192 channels and 3 heads.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

WIDTH = 128
LEFT = 4
"""side in pixels of what the last block leaves"""
CONVNETS = tuple(f"convnet{depth}{norm}" for norm in ("", "_bn") for depth in range(1, 7))


class ConvNet(nn.Module):
    """Blocks of convolution, normalization, ReLU and pooling, for images of 4 * 2^depth pixels."""

    def __init__(self, depth: int, num_classes: int, channels: int = 3, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(depth):
            norm = nn.BatchNorm2d(WIDTH) if batch_norm else nn.GroupNorm(WIDTH, WIDTH)
            convolution = nn.Conv2d(WIDTH if number else channels, WIDTH, 3, padding=1)
            layers += [convolution, norm, nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(WIDTH * LEFT**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def convnet(name: str, num_classes: int, channels: int) -> ConvNet:
    """A ConvNet by one of its names."""
    return ConvNet(int(re.sub(r"\D", "", name)), num_classes, channels, name.endswith("_bn"))
