"""torchvision's classification models, which take 3 channels, under its names; and some for small images.

For images of up to 64 pixels, under names with ``_small``, the steps that halve the image at the start are
taken out, as in the small-image repositories:

    resnet*         3x3 stem of stride 1, no max-pooling
    vgg*            one linear layer over the mean of the last pixels, instead of three over 7 x 7 of them
    mobilenet_v2    stride 1 in the stem and in the first of the halving stages
    efficientnet_b0 stride 1 in the stem
    shufflenet_v2_* stride 1 in the stem, no max-pooling
    densenet121     3x3 stem of stride 1, no BatchNorm and max-pooling behind it

``vit_small32`` and ``vit_small64``, for images of 32 and 64 pixels, are VisionTransformers with 64 patches, 6
layers of 192 channels and 3 heads.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision import models

from ..errors import InputError
from .registry import Network, register_network

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""networks with auxiliary classifiers, which BatchNorm made dispensable, and prefixes of their tensors"""
TORCHVISION = tuple(models.list_models(module=models))
LARGEST_SIDE = 64
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
VGGS = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn")
SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")


def small(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """The small-image form of a torchvision model."""
    network = models.get_model(name, num_classes=num_classes)
    if name in RESNETS:
        return small_stem(network, channels)
    if name == "densenet121":
        width = network.features.conv0.out_channels
        network.features.conv0 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        network.features.norm0, network.features.relu0 = nn.Identity(), nn.Identity()
        network.features.pool0 = nn.Identity()
        return network
    if name in VGGS:
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, num_classes)
        _change_stem(network.features, channels)
    elif name in SHUFFLENETS:
        network.maxpool = nn.Identity()
        _change_stem(network.conv1, channels)
    else:
        _change_stem(network.features[0], channels)
    if name == "mobilenet_v2":
        network.features[2].conv[1][0].stride = (1, 1)
    return network


def small_stem(network: nn.Module, channels: int = 3) -> nn.Module:
    """Give a torchvision ResNet the small-image stem: 3x3 convolution of stride 1, no max-pooling."""
    network.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _change_stem(stem: nn.Sequential, channels: int) -> None:
    """Give a stem's first convolution stride 1, and these input channels."""
    first = stem[0]
    assert isinstance(first, nn.Conv2d)
    first.stride = (1, 1)
    if channels != first.in_channels:
        stem[0] = nn.Conv2d(channels, first.out_channels, 3, 1, 1, bias=first.bias is not None)


for each in (*RESNETS, *VGGS, "mobilenet_v2", "efficientnet_b0", *SHUFFLENETS, "densenet121"):
    network_of = Network(partial(small, each), paper_name=each, sides=range(1, LARGEST_SIDE + 1))
    register_network(f"{each}_small", network_of)


def torchvision_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """A torchvision model by its name."""
    if channels != 3:
        raise InputError(
            f"network {name!r} takes 3 channels, but data.channels is {channels}; set data.channels=3"
        )
    # without init_weights these two warn that its default may change
    options = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


for each in TORCHVISION:
    builder = partial(torchvision_network, each)
    register_network(each, Network(builder, auxiliary=AUXILIARY.get(each, ())))


def vit(side: int, num_classes: int, channels: int = 3) -> nn.Module:
    """A small VisionTransformer for images of ``side`` pixels."""
    network = models.VisionTransformer(
        side, side // 8, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=384, num_classes=num_classes
    )
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, 192, side // 8, side // 8)
    return network


for pixels in (32, 64):
    builder = partial(vit, pixels)
    register_network(f"vit_small{pixels}", Network(builder, paper_name="vit", sides=(pixels,)))
