"""CIM: each image looks to a layer of the teacher as the real image that it started from, its anchor.

    weight sum_n d(f(aug a_n), f(aug x_n))        x_n: images of the unit, a_n: their anchors

Both go through the same augmentation, and f is the embedding, or the output of a block or stage with all its
pixels or as their mean. With D numbers an image the distance d is

    l1       (1 / D) sum_d |a_d - x_d|               what the released code calls l1_mean, and uses
    l2       (1 / D) sum_d (a_d - x_d)^2             what the paper writes
    cosine   1 - a . x / (||a|| ||x|| + 1e-6)

So an image that stores only a part of its anchor, such as a cell or some low frequencies, still resembles it
to the network. Anchors need no gradient. Where no other term reads more, the teacher's forward pass ends at
the layer: with a ResNet-18 at 224 pixels and ``stages.1``, CIM's, that leaves 55 % of it. The term is of
single images, so any batch gives the same images.

CIM: Condensing Large-Scale Datasets Directly with Minimal Information Loss (ECCV 2026).
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor, nn

from ...config import Config
from ...config.base import NotNegative
from ...errors import InputError, suggestion
from ...teachers import Features, single_layers
from ..plan import Unit
from .base import Needs, Term, Values, register_term

EMBEDDING = "embedding"
LAYER = re.compile(r"embedding|(blocks|stages)\.\d+")
EPSILON = 1e-6
"""added to the product of two norms, as in the released code"""

Distance = Literal["l1", "l2", "cosine"]


class Pairs(Config):
    """Distance of each image from the real image that it started from, to a layer of the teacher, summed."""

    weight: NotNegative = 1.0
    """factor of the sum over the images"""
    layer: str = EMBEDDING
    """what is compared. embedding: the input of the teacher's last linear layer; blocks.N and stages.N: the
    output of its N-th block or stage, counted from 0"""
    of: Literal["map", "mean"] = "map"
    """map: all pixels of the layer's output; mean: their mean, a number a channel. An embedding has no
    pixels"""
    distance: Distance = "l1"
    """l1: mean absolute difference, as in the released code; l2: mean squared difference, as in the paper;
    cosine: 1 minus the cosine"""

    @field_validator("layer")
    @classmethod
    def _is_a_layer(cls, layer: str) -> str:
        if not LAYER.fullmatch(layer):
            near = suggestion(layer, (EMBEDDING, "blocks.0", "stages.0"))
            raise ValueError(f"layer must be embedding, blocks.N or stages.N, got {layer!r}{near}")
        return layer


class PairsTerm(Term[Pairs, None]):
    """The sum of the distances of a unit's images; it has no targets."""

    configuration = Pairs
    labels: ClassVar = {"pairs": "distance to the start"}
    position = 70
    paired = True

    @classmethod
    def needs(cls, config: Pairs, network: nn.Module) -> Needs:
        if config.layer == EMBEDDING:
            return Needs()
        found = single_layers(network)
        if config.layer not in found:
            kinds = {name.partition(".")[0]: name for name in found}  # the last of each kind
            there = ", ".join([EMBEDDING, *(f"{kind}.0 to {last}" for kind, last in kinds.items())])
            raise InputError(
                f"{type(network).__name__} has no layer {config.layer!r}{suggestion(config.layer, found)}; "
                f"it has {there}"
            )
        layer = (config.layer,)
        return (
            Needs(maps=layer, end=config.layer) if config.of == "map" else Needs(pooled=layer, end=layer[0])
        )

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        assert features.anchors is not None  # the objective gives them to paired terms
        distances = pair_distances(self._read(features.anchors), self._read(features), self.config.distance)
        return {"pairs": self.config.weight * distances.sum()}

    def _read(self, features: Features) -> Tensor:
        """What is compared of each image, float32 [N, D]."""
        config = self.config
        if config.layer == EMBEDDING:
            return features.embedding
        layers = features.maps if config.of == "map" else features.pooled
        return layers[config.layer].flatten(1).float()


def pair_distances(anchors: Tensor, images: Tensor, distance: Distance) -> Tensor:
    """The distance of each row from its partner."""
    if distance == "l1":
        return (anchors - images).abs().mean(1)
    if distance == "l2":
        return (anchors - images).square().mean(1)
    norms = torch.linalg.vector_norm(anchors, dim=1) * torch.linalg.vector_norm(images, dim=1)
    return 1 - (anchors * images).sum(1) / (norms + EPSILON)


register_term("pairs", PairsTerm)
