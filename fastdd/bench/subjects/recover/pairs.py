"""A step of CIM at 224 pixels: a forward pass that ends at layer2 against the whole one.

The term is that of pairs on the output of layer2 of a ResNet-18. The released form takes images and anchors
as one batch, passes the whole network and keeps a graph of both; ``whole`` has no graph of the anchors; ours
also ends the pass at the layer.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from ....models.build import build
from ....recover.terms.pairs import pair_distances
from ....teachers import Taps
from ...work import Goal, Scale, Side, Work

LAYER = "stages.1"


class Both(NamedTuple):
    """The network with taps, the same ending at the layer, and images [N, 3, H, W] with their anchors."""

    whole: Taps
    ended: Taps
    images: Tensor
    anchors: Tensor


def gradient(taps: Taps, images: Tensor, anchors: Tensor) -> Tensor:
    """The gradient [N, 3, H, W] of the term to the images."""
    moving = images.clone().requires_grad_()
    with torch.no_grad():
        wanted = taps(anchors).maps[LAYER].flatten(1)
    loss = pair_distances(wanted, taps(moving).maps[LAYER].flatten(1), "l1").sum()
    return torch.autograd.grad(loss, moving)[0]


def released(taps: Taps, images: Tensor, anchors: Tensor) -> Tensor:
    """The same gradient as the released code computes it."""
    moving = images.clone().requires_grad_()
    wanted, found = taps(torch.cat((anchors, moving))).maps[LAYER].flatten(1).chunk(2)
    loss = pair_distances(wanted, found, "l1").sum()
    return torch.autograd.grad(loss, moving)[0]


def inputs(scale: Scale, count: int, side: int) -> Both:
    """A random network and noise."""
    torch.manual_seed(0)
    network = build("resnet18", 10).eval().to(scale.device)
    images, anchors = (
        scale.randn(count, 3, side, side, seed=seed).contiguous(memory_format=torch.channels_last)
        for seed in (0, 1)
    )
    whole, ended = Taps(network, maps=[LAYER]), Taps(network, maps=[LAYER], end=LAYER)
    return Both(whole, ended, images, anchors)


def exact(both: Both) -> list[Tensor]:
    """The gradient in float64."""
    return [gradient(copy.deepcopy(both.whole).double(), both.images.double(), both.anchors.double())]


def works(scale: Scale) -> list[Work]:
    count, side = scale.size(8, 2), scale.size(224, 32)
    work: Work[Both] = Work(
        "cim",
        f"a step of CIM on layer2 of a ResNet-18, {count} images of {side} x {side} and their anchors",
        lambda: inputs(scale, count, side),
        exact,
        tolerance=2e-2,
        error="norm",
        unit="step",
        goals=(Goal("faster", 1.6, "released"), Goal("faster", 1.6, "whole")),
        sides={
            "ours": Side(lambda both: lambda: [gradient(both.ended, both.images, both.anchors)]),
            "released": Side(lambda both: lambda: [released(both.whole, both.images, both.anchors)]),
            "whole": Side(lambda both: lambda: [gradient(both.whole, both.images, both.anchors)]),
        },
    )
    return [work]
