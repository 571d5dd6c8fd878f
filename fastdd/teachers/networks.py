"""Networks by name: torchvision's, and the small-image variants of small.py."""

from __future__ import annotations

import re

from torch import nn

from ..errors import InputError, suggestion
from .small import CifarResNet, small_stem

SMALL = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56")
SMALL_STEM = ("resnet18_small", "resnet34_small", "resnet50_small", "resnet101_small")


def build(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network.

    Args:
        name: ``resnet8|20|32|44|56`` (CIFAR ResNets), ``resnet18_small`` and its kin (torchvision's
            with a 3x3 stem), or any torchvision classification model.
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
        return small_stem(models.get_model(name.removesuffix("_small"), num_classes=num_classes), channels)
    known = [*SMALL, *SMALL_STEM, *models.list_models(module=models)]
    if name not in known:
        raise InputError(f"unknown network {name!r}{suggestion(name, known)}")
    if channels != 3:
        raise InputError(f"network {name!r} takes 3 channels, but data.channels is {channels}; set data.channels=3")
    return models.get_model(name, weights=None, num_classes=num_classes)
