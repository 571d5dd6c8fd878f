"""The ConvNet of the matching methods (Gidaris and Komodakis, 2018; Zhao et al., 2021).

``convnetD``: D blocks of 3x3 convolution with 128 channels, InstanceNorm with affine parameters, ReLU and 2x2
average pooling, and a linear layer over the 4 x 4 pixels that are left: for 32 pixels D is 3 (320,010
parameters with 10 classes), for 64 it is 4, for 8 it is 1. ``convnetD_bn`` has BatchNorm instead, as in RDED
and G-VBSM.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from .registry import Network, register_network

WIDTH = 128
LAST_SIDE = 4
"""Side in pixels of the last block's output."""


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
        self.classifier = nn.Linear(WIDTH * LAST_SIDE**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


for blocks in range(1, 7):
    plain, normalized = partial(ConvNet, blocks), partial(ConvNet, blocks, batch_norm=True)
    side = LAST_SIDE << blocks
    register_network(f"convnet{blocks}", Network(plain, paper_name="convnet", sides=(side,)))
    register_network(f"convnet{blocks}_bn", Network(normalized))
