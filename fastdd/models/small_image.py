"""torchvision's networks for images of 32 and 64 pixels: their names with ``_small``.

What halves the image at the start is taken out, as the small-image repositories have it:

    resnet*         3x3 stem of stride 1, no max-pooling
    vgg*            one linear layer over the mean of the last pixels, instead of three over 7 x 7 of them
    mobilenet_v2    stride 1 in the stem and in the first of the halving stages
    efficientnet_b0 stride 1 in the stem
    shufflenet_v2_* stride 1 in the stem, no max-pooling
"""

from __future__ import annotations

from torch import nn

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
VGGS = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn")
SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")
SMALL_STEM = tuple(
    f"{name}_small" for name in (*RESNETS, *VGGS, "mobilenet_v2", "efficientnet_b0", *SHUFFLENETS)
)


def small(name: str, num_classes: int, channels: int) -> nn.Module:
    """A network of SMALL_STEM by its name."""
    from torchvision import models

    name = name.removesuffix("_small")
    network = models.get_model(name, num_classes=num_classes)
    if name in RESNETS:
        return small_stem(network, channels)
    if name in VGGS:
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, num_classes)
        _retouch(network.features, channels, stride=1)
    elif name in SHUFFLENETS:
        network.maxpool = nn.Identity()
        _retouch(network.conv1, channels, stride=1)
    else:
        _retouch(network.features[0], channels, stride=1)
    if name == "mobilenet_v2":
        network.features[2].conv[1][0].stride = (1, 1)
    return network


def small_stem(network: nn.Module, channels: int = 3) -> nn.Module:
    """Give a torchvision ResNet the small-image stem: 3x3 convolution of stride 1, no max-pooling."""
    network.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _retouch(stem: nn.Module, channels: int, stride: int) -> None:
    """The stride of a stem's first convolution, and its input channels where they are not 3."""
    assert isinstance(stem, nn.Sequential)
    first = stem[0]
    assert isinstance(first, nn.Conv2d)
    first.stride = (stride, stride)
    if channels != first.in_channels:
        stem[0] = nn.Conv2d(channels, first.out_channels, 3, stride, 1, bias=first.bias is not None)
