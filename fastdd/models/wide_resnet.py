"""The wide ResNet of 16 layers and twice the channels, ``wrn_16_2`` (Zagoruyko and Komodakis, 2016).

BatchNorm and ReLU come before each convolution. Three stages of two blocks have 32, 64 and 128 channels; a
block that changes them has a 1x1 convolution as shortcut, which takes the activated input. Names of
parameters are those of RepDistiller's checkpoints, which G-VBSM and EDC use (703,284 parameters with 100
classes).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .registry import Network, register_network

BLOCKS = 2
"""blocks a stage: (16 layers - 4) / 6"""
CHANNELS = (16, 32, 64, 128)
"""channels of the stem and of the stages"""


class WideBlock(nn.Module):
    """BatchNorm, ReLU and 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.convShortcut: nn.Conv2d | None = None  # the checkpoints' name
        if channels_in != channels:
            self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class Stage(nn.Module):
    """The blocks of a stage, one level deeper in the names, as in the checkpoints."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(channels_in, channels, stride)
        self.layer = nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(BLOCKS - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-16-2 for small images; it ends with the mean of the last pixels."""

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        stem, first, second, third = CHANNELS
        self.conv1 = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        self.block1 = Stage(stem, first, 1)
        self.block2 = Stage(first, second, 2)
        self.block3 = Stage(second, third, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


register_network("wrn_16_2", Network(WideResNet))
