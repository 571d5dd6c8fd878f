"""Networks in the memory layout that ``fastdd.models.build.memory_format`` chooses, against the other one.

What is timed is what a recover step asks of a teacher: a forward and a backward pass of a network in eval
mode with frozen weights, to the images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ....models.build import build, memory_format
from ....recover.terms.pairs import pair_distances
from ....runtime.precision import autocast, float32_products
from ....teachers import Taps
from ...work import Goal, Scale, Side, Work

NETWORKS = (
    ("resnet18_small", 32, 10),
    ("resnet20", 32, 50),
    ("resnet18", 224, 2),
    ("convnet3", 32, 50),
    ("convnet3_bn", 32, 50),
    ("vgg11_small", 32, 20),
    ("vgg16_bn_small", 32, 20),
    ("mobilenet_v2_small", 32, 20),
    ("mobilenet_v2", 224, 2),
    ("efficientnet_b0_small", 32, 20),
    ("shufflenet_v2_x1_0_small", 32, 50),
    ("shufflenet_v2_x1_0", 224, 4),
    ("vit_small32", 32, 20),
)
"""name, side of an image in pixels, and number of images"""
QUICK_NETWORKS = (("resnet8", 8, 2), ("convnet1", 8, 2))
CLASSES = 100


@dataclass(frozen=True)
class Passes:
    """A network and noise images [N, 3, H, W]."""

    scale: Scale
    network: nn.Module
    images: Tensor

    def in_layout(self, chosen: bool) -> Callable[[], list[Tensor]]:
        layout = memory_format(self.network, self.scale.device)
        if not chosen:
            other = {torch.channels_last: torch.contiguous_format}
            layout = other.get(layout, torch.channels_last)
        network = copy.deepcopy(self.network).to(memory_format=layout)
        images = self.images.clone(memory_format=layout).requires_grad_()
        precision = self.scale.precision

        def run() -> list[Tensor]:
            with float32_products(precision), autocast(self.scale.device, precision):
                logits = network(images)
            return list(torch.autograd.grad(logits.float().square().sum(), images))

        return run

    def exact(self) -> list[Tensor]:
        """The gradient in float64."""
        images = self.images.double().requires_grad_()
        logits = copy.deepcopy(self.network).double()(images)
        return list(torch.autograd.grad(logits.square().sum(), images))


def layout_work(scale: Scale, name: str, side: int, count: int) -> Work[Passes]:

    def inputs() -> Passes:
        torch.manual_seed(0)
        network = build(name, CLASSES).eval().requires_grad_(False).to(scale.device)
        return Passes(scale, network, scale.randn(count, 3, side, side))

    return Work(
        f"layout_{name}_{side}",
        f"{name} both ways to {count} images of {side} x {side}, in the chosen layout and the other",
        inputs,
        lambda passes: passes.exact(),
        tolerance=scale.tolerance,
        error="norm",
        count=count,
        unit="image",
        sides={
            "ours": Side(lambda passes: passes.in_layout(True)),
            "other_layout": Side(lambda passes: passes.in_layout(False)),
        },
    )


def layout_works(scale: Scale) -> list[Work]:
    """A work for each kind of network."""
    return [layout_work(scale, *each) for each in (QUICK_NETWORKS if scale.quick else NETWORKS)]


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


def cim_works(scale: Scale) -> list[Work]:
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
