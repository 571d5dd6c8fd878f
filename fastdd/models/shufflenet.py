"""ShuffleNet with two groups, ``shufflenet_g2`` (Zhang et al., 2018), for small images.

The stem is a 1x1 convolution, so that images of 32 pixels keep their size. A block is a 1x1 convolution in
two groups, a shuffle of the channels, a 3x3 convolution of each channel and a 1x1 convolution in two groups.
The first block of a stage halves the image and appends its channels to those of the averaged input. Names of
parameters are those of INFER's checkpoints (pytorch-cifar; 887,582 parameters with 10 classes).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import Network, register_network

GROUPS = 2
STEM = 24
"""channels of the stem, whose first convolution is not grouped"""
STAGES = ((200, 4), (400, 8), (800, 4))
"""channels and blocks of the stages"""


class ShuffleBlock(nn.Module):
    """A block that keeps its input's size, or with ``halves`` halves it and appends its own channels."""

    def __init__(self, channels_in: int, channels: int, *, halves: bool) -> None:
        super().__init__()
        inner, own = channels // 4, GROUPS if channels_in != STEM else 1
        self.conv1 = nn.Conv2d(channels_in, inner, 1, groups=own, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 2 if halves else 1, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.groups, self.halves = own, halves

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = out.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.halves:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1))
        return F.relu(out + x)


class ShuffleNet(nn.Module):
    """ShuffleNet for small images; it ends with the mean of the last pixels."""

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        width, stages = STEM, []
        for channels_out, blocks in STAGES:
            first = ShuffleBlock(width, channels_out - width, halves=True)
            rest = (ShuffleBlock(channels_out, channels_out, halves=False) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            width = channels_out
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


register_network("shufflenet_g2", Network(ShuffleNet))
