"""Networks by name: torchvision's, their small-image variants (small_image.py), and those of cifar_resnet.py and convnet.py."""

from __future__ import annotations

import re

import torch
from torch import nn

from ..errors import InputError, suggestion
from .cifar_resnet import CifarResNet
from .convnet import CONVNETS, convnet
from .small_image import SMALL_STEM, small
from .vit import VITS, vit

SMALL = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56")
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""networks with auxiliary classifiers for training, which BatchNorm made dispensable, and the names of their tensors"""


def build(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network; it returns its logits [N, num_classes] alone, in training too.

    Args:
        name: ``resnet8|20|32|44|56`` (CIFAR ResNets), ``convnet3`` and its kin, ``vit_small32|64``, a name of
            stems.SMALL_STEM such as ``resnet18_small``, or any torchvision classification model.
        num_classes: number of logits.
        channels: input channels; torchvision's own models take 3.

    Raises:
        InputError: no such network, or one that cannot take this many channels.
    """
    from torchvision import models

    if name in SMALL:
        depth = int(re.sub(r"\D", "", name))
        return CifarResNet((depth - 2) // 6, num_classes, channels)
    if name in SMALL_STEM:
        return small(name, num_classes, channels)
    if name in CONVNETS:
        return convnet(name, num_classes, channels)
    if name in VITS:
        return vit(name, num_classes, channels)
    known = [*SMALL, *SMALL_STEM, *CONVNETS, *VITS, *models.list_models(module=models)]
    if name not in known:
        raise InputError(f"unknown network {name!r}{suggestion(name, known)}")
    if channels != 3:
        raise InputError(
            f"network {name!r} takes 3 channels, but data.channels is {channels}; set data.channels=3"
        )
    # without init_weights these two warn that its default may change
    own = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **own)


def outline(key: str, name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network without memory for its weights, after it took one image without arithmetic.

    It tells in milliseconds, before hours of work, whether a network exists and takes the images.

    Args:
        key: the recipe's key, for the message.
        shape: (C, H, W) of an image.

    Raises:
        InputError: no such network, or one that cannot take such images.
    """
    with torch.device("meta"):
        network = _weightless(name, num_classes, shape[0]).eval()
        try:
            logits = network(torch.zeros(1, *shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise InputError(
                f"{key}: {name} cannot take images of {shape[0]} x {shape[1]} x {shape[2]} ({error}); "
                "set data.size, or choose another network"
            ) from error
    assert logits.shape == (1, num_classes)  # every network of build gives logits in eval mode
    return network


def _weightless(name: str, num_classes: int, channels: int) -> nn.Module:
    try:
        return build(name, num_classes, channels)
    except NotImplementedError:  # RegNets compute their widths with tensors, which need memory
        with torch.device("cpu"):
            return build(name, num_classes, channels).to("meta")
