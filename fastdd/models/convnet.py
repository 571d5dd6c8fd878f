"""The ConvNet of the matching methods (Gidaris and Komodakis, 2018; Zhao et al., 2021).

``convnetD``: D blocks of 3x3 convolution with 128 channels, InstanceNorm with affine parameters, ReLU and 2x2
average pooling, and a linear layer over the 4 x 4 pixels that are left: for 32 pixels D is 3 (320,010
parameters with 10 classes), for 64 it is 4, for 8 it is 1. ``convnetD_bn`` has BatchNorm instead, as in RDED.

Committees of G-VBSM and EDC hear ConvNets of other depths and widths, by the names of their images and
channels: ``convnet1_32`` and ``convnet2_32`` (theirs are called D1 and D2) leave 16 x 16 and 8 x 8 pixels of
32, ``convnet3_64`` leaves 8 x 8 of 64, and ``convnet3_w32`` has 32 channels (W32). Their W128 is convnet3.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from .registry import Network, register_network

WIDTH = 128
LAST_SIDE = 4
"""Side in pixels of the last block's output where the depth fits the images."""


class ConvNet(nn.Module):
    """Blocks of convolution, normalization, ReLU and pooling.

    Args:
        side: side of the images in pixels; None: 4 * 2^depth.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        channels: int = 3,
        *,
        width: int = WIDTH,
        side: int | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(depth):
            norm = nn.BatchNorm2d(width) if batch_norm else nn.GroupNorm(width, width)
            convolution = nn.Conv2d(width if number else channels, width, 3, padding=1)
            layers += [convolution, norm, nn.ReLU(), nn.AvgPool2d(2)]
        last_side = LAST_SIDE if side is None else side >> depth
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * last_side**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


for blocks in range(1, 7):
    plain, normalized = partial(ConvNet, blocks), partial(ConvNet, blocks, batch_norm=True)
    fitting = LAST_SIDE << blocks
    register_network(f"convnet{blocks}", Network(plain, paper_name="convnet", sides=(fitting,)))
    register_network(f"convnet{blocks}_bn", Network(normalized))
for blocks, pixels in ((1, 32), (2, 32), (3, 64)):
    register_network(f"convnet{blocks}_{pixels}", Network(partial(ConvNet, blocks, side=pixels)))
register_network("convnet3_w32", Network(partial(ConvNet, 3, width=32)))
