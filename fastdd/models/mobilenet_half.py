"""MobileNetV2 of half the width, ``mobilenet_v2_half``, as knowledge distillation uses it on small images.

The stem halves the image, the second stage does not. Names of parameters are those of RepDistiller's
checkpoints, which G-VBSM and EDC use under the name MobileNetV2 (812,836 parameters with 100 classes).
"""

from __future__ import annotations

from torch import Tensor, nn

from .registry import Network, register_network

STEM, LAST = 16, 1280
STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
"""expansion, channels, blocks and first stride of the stages"""


def _convolution(channels_in: int, channels: int, side: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, side, stride, side // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU()]


class InvertedBlock(nn.Module):
    """1x1 convolution to more channels, 3x3 of each channel, 1x1 back; added to the input where it fits."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.conv = nn.Sequential(
            *_convolution(channels_in, wide, 1),
            *(depthwise, nn.BatchNorm2d(wide), nn.ReLU()),
            *(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )
        self.is_residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetHalf(nn.Module):
    """MobileNetV2 with half the channels but for the last layer; it ends with the mean of the last pixels."""

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_convolution(channels, STEM, 3, 2))
        width, stages = STEM, []
        for expansion, channels_out, blocks, first in STAGES:
            strides = [first] + [1] * (blocks - 1)
            stage = []
            for stride in strides:
                stage.append(InvertedBlock(width, channels_out, stride, expansion))
                width = channels_out
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv2 = nn.Sequential(*_convolution(width, LAST, 1))
        self.classifier = nn.Sequential(nn.Linear(LAST, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv2(self.blocks(self.conv1(x))).mean((2, 3)))


register_network("mobilenet_v2_half", Network(MobileNetHalf))
