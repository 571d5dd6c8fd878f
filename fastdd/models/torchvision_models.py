"""torchvision's classification models, under torchvision's names; they take 3 channels."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision import models

from ..errors import InputError
from .registry import Network, register_network

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Networks with auxiliary classifiers, which BatchNorm made dispensable, and prefixes of their tensors."""
TORCHVISION = tuple(models.list_models(module=models))


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
