"""Means of the features of each class, through a new random network at every step (DM, DataDAM, CAFE).

    L = weight sum_l w_l sum_c || mean f_l(a_c R_c) - mean f_l(a_c S_c) ||^2
        + output sum_c || mean e(a_c R_c) - mean e(a_c S_c) ||^2
        + discriminate sum_{x in R} CE(e(x) . mean e(S)^T, class of x)

R_c are real images of class c, S_c all its synthetic ones in the unit, a_c one Siamese draw for both, f_l a
layer's features or attention maps, and e the input of the last linear layer. The sums run over features and
classes, so the gradient of a class depends on that class alone, but for ``discriminate``.

Only the means of the real features reach the loss: they are computed in chunks without a graph. Synthetic
images go forward and backward in chunks of whole classes, so memory is bounded by a chunk. Cost of a step, in
forward passes of an image: real + 2 IPC for each class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import mean_distance, siamese_augment
from fastdd_kernels.matching import attention

from ...config import FeatureMatch, Match
from ..objective import Signal, Variable
from ..plan import Unit
from ..steps import Round
from ..terms.base import Values, add_values
from .inner import StepNetwork
from .networks import Recorded
from .real import RealImages

CHUNK = {"cpu": 32, "cuda": 512}
"""images in a forward pass, by device: more are no faster on a CPU, whose caches they leave"""


class Target(NamedTuple):
    """What the real images of a class gave in one draw.

    Attributes:
        means: for each matched layer the mean row [D].
        embeddings: [n, D] of its images, where something uses them; else empty.
    """

    means: list[Tensor]
    embeddings: Tensor


def matched_rows(config: FeatureMatch, recorded: Recorded) -> list[tuple[str, float, Tensor]]:
    """What is averaged over the images of a class: (name of the value, factor, rows [N, D]) of each layer."""
    layers: list[Tensor] = []
    if config.layers != "last":
        layers += recorded.maps[:-1] if config.layers == "relu" else recorded.maps
    flat = [attention(x, config.power) if config.map == "attention" else x.flatten(1) for x in layers]
    if config.layers != "relu":
        flat.append(recorded.embedding)
    weights = layer_weights(config, len(flat))
    name = "attention" if config.map == "attention" else "features"
    rows = [(name, config.weight * weight, x) for weight, x in zip(weights, flat, strict=True)]
    return [*rows, ("output", config.output, recorded.embedding)] if config.output else rows


def layer_weights(config: FeatureMatch, layers: int) -> tuple[float, ...]:
    """The weight of each matched layer, from shallow to deep."""
    if config.weights == "cafe":
        return (*(0.1,) * (layers - 2), 1.0, 2.0)[-layers:]
    return config.weights or (1.0,) * layers


class FeatureSignal(Signal):
    """Means of features of each class.

    Args:
        match: the section that it is part of, with the networks and the augmentation.
        network: the network of each step, which records maps unless only the last layer is matched.

    Attributes:
        real_embeddings: class -> embeddings [n, D] of its real images in the present step, where something
            uses them.
    """

    def __init__(self, config: FeatureMatch, match: Match, *, real: RealImages, network: StepNetwork) -> None:
        self.config, self.match, self.real = config, match, real
        self.network, self.networks = network, network.networks
        self.keeps_embeddings = config.discriminate > 0 or match.added.through == "network"
        self.real_embeddings: dict[int, Tensor] = {}

    def start(self, unit: Unit, steps: int) -> None:
        self.network.start(unit)
        self.classes, self.slots, self.number = unit.groups, unit.shape[2], -1

    def state(self) -> dict[str, Tensor]:
        return self.network.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.network.restore(state)

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        number = self.network.advance(step, variable)
        if number != self.number:
            self._draw(number)
        images = variable.images()
        per_chunk = max(1, CHUNK[images.device.type] // self.slots)
        surrogate = self._discrimination(images, per_chunk) if self.config.discriminate else None
        gradients, values = [], {} if surrogate is None else {"discrimination": surrogate[0]}
        for groups in ranges(len(self.classes), per_chunk):
            rows = slice(groups.start * self.slots, groups.stop * self.slots)
            chunk = images[rows].detach().requires_grad_()
            recorded = self._features(chunk, groups)
            loss, found = self._distances(recorded, groups)
            if surrogate is not None:
                slope = surrogate[1][groups.start : groups.stop]
                loss = loss + (self._mean(recorded.embedding) * slope).sum()
            gradients.append(torch.autograd.grad(loss, chunk)[0])
            add_values(values, found)
        images.backward(torch.cat(gradients))
        return values

    # -- the real side -------------------------------------------------------------------------

    @torch.no_grad()
    def _draw(self, number: int) -> None:
        """Take the real images and the augmentation of a draw."""
        self.number = number
        distinct = list(dict.fromkeys(self.classes))
        drawn = {c: self.real.siamese(self.match.siamese, c, number) for c in distinct}
        targets = {c: self._target(c, drawn[c], number) for c in distinct}
        rows = [drawn[c] for c in self.classes]
        self.augmentation = None if not self.match.siamese.operations else torch.cat(rows)
        by_layer = zip(*(targets[c].means for c in self.classes), strict=True)
        self.targets = [torch.stack(means) for means in by_layer]
        self.real_embeddings = {c: target.embeddings for c, target in targets.items()}

    def _target(self, c: int, drawn: Tensor, number: int) -> Target:
        images = self.real.drawn(c, self.match.networks.real, number)
        sums: list[Tensor] = []
        embeddings = []
        augmented = siamese_augment(images, drawn) if len(drawn) else images
        for chunk in augmented.split(CHUNK[images.device.type]):
            recorded = self.networks(chunk)
            totals = [rows.sum(0) for _, _, rows in matched_rows(self.config, recorded)]
            sums = totals if not sums else [a + b for a, b in zip(sums, totals, strict=True)]
            if self.keeps_embeddings:
                embeddings.append(recorded.embedding)
        kept = torch.cat(embeddings) if embeddings else images.new_empty(0, 0)
        return Target([total / len(images) for total in sums], kept)

    # -- the synthetic side --------------------------------------------------------------------

    def embedding(self, images: Tensor, groups: range) -> Tensor:
        """Embeddings [N, D] of the images of these groups of the unit, through the network of the step."""
        return self._features(images, groups).embedding

    def _features(self, chunk: Tensor, groups: range) -> Recorded:
        if self.augmentation is not None:
            chunk = siamese_augment(chunk, self.augmentation[groups.start : groups.stop])
        return self.networks(chunk)

    def _mean(self, rows: Tensor) -> Tensor:
        """Rows [N, D] as means of the classes, [classes, D]."""
        return rows.view(-1, self.slots, rows.shape[1]).mean(1)

    def _distances(self, recorded: Recorded, groups: range) -> tuple[Tensor, Values]:
        loss, values = recorded.embedding.new_zeros(()), dict[str, Tensor]()
        layers = matched_rows(self.config, recorded)
        for target, (name, factor, rows) in zip(self.targets, layers, strict=True):
            wanted = target[groups.start : groups.stop, None]
            value = factor * mean_distance(rows.view(len(groups), self.slots, -1), wanted).sum()
            add_values(values, {name: value})
            loss = loss + value
        return loss, values

    def _discrimination(self, images: Tensor, per_chunk: int) -> tuple[Tensor, Tensor]:
        """CAFE's cross-entropy of real features against mean synthetic ones, and its gradient by the means.

        The means need all classes, so they are computed without a graph first; in the pass with one, a chunk
        adds the scalar product of its means with the gradient found here.
        """
        with torch.no_grad():
            means = [
                self._mean(self._features(images[g.start * self.slots : g.stop * self.slots], g).embedding)
                for g in ranges(len(self.classes), per_chunk)
            ]
        centers = torch.cat(means).requires_grad_()
        each = [self.real_embeddings[c] for c in self.classes]
        real, counts = torch.cat(each), torch.tensor([len(rows) for rows in each], device=each[0].device)
        classes = torch.arange(len(counts), device=real.device)
        truth = classes.repeat_interleave(counts, output_size=len(real))  # else the host waits for the sum
        value = self.config.discriminate * F.cross_entropy(real @ centers.T, truth, reduction="sum")
        (gradient,) = torch.autograd.grad(value, centers)
        return value.detach(), gradient


def ranges(count: int, size: int) -> Iterator[range]:
    """Consecutive ranges of ``size`` numbers from 0 to ``count``; the last may be shorter."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
